"""Writes functions in LLVM's language: loops, and work that threads share. Knows nothing of what is computed."""

from __future__ import annotations

FIELDS = (
    "next_row", "next_tile", "tiles", "blocks", "rows", "weight", "scales", "table", "x", "codes", "x_scales", "x_sums", "y",
    "stride", "unit",
)  # fmt: skip
"""Words of a `kernels.Work`, which says what they mean."""

TEAM = ("busy", "open", "round", "what", "work", "joined")
"""Words that threads share: someone multiplies; others may join; number of this offer; what is done, and with what; how many
joined."""
LINE = 128
"""Bytes between them, so that they don't share a line of the cache."""
PATIENCE = 1_500
"""How often a thread looks for work before it sleeps: for about half a millisecond, longer than torch takes in between."""
GIVE_WAY = "medfm_give_way"
"""The system's function that lets another thread run."""


class KernelCode:
    """A unit that LLVM compiles, for one width of vectors.

    Args:
        lanes: float32 numbers in a vector. vnni: whether the CPU multiplies and adds four bytes at once.
    """

    def __init__(self, lanes: int, vnni: bool):
        from llvmlite import ir

        self.ir, self.lanes, self.vnni = ir, lanes, vnni
        self.i8, self.i16, self.i32, self.i64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
        self.f32 = ir.FloatType()
        self.bytes = ir.VectorType(self.i8, 4 * lanes)
        self.ints = ir.VectorType(self.i32, lanes)
        self.floats = ir.VectorType(self.f32, lanes)
        self.unit = ir.Module("medfm")
        self.unit.triple = ""
        self.pointer = ir.PointerType()
        self.jobs: list = []
        """Functions of a `Work` that the team can share."""

    # -- small things ----------------------------------------------------------------------------

    def intrinsic(self, name: str, result, *arguments):
        """A function of LLVM's own, declared once."""
        if name in self.unit.globals:
            return self.unit.globals[name]
        return self.ir.Function(self.unit, self.ir.FunctionType(result, arguments), name)

    def number(self, value: int):
        """An address-sized constant."""
        return self.ir.Constant(self.i64, value)

    def get(self, b, work, name: str):
        """A field of `Work`."""
        return b.load(b.gep(work, [self.number(FIELDS.index(name))], source_etype=self.i64), typ=self.i64)

    def at(self, b, base, offset, kind, align: int = 1):
        """What stands `offset` bytes after an address."""
        return b.load(b.inttoptr(b.add(base, offset), self.pointer), typ=kind, align=align)

    def put(self, b, value, base, offset):
        """Write `offset` bytes after an address."""
        b.store(value, b.inttoptr(b.add(base, offset), self.pointer), align=1)

    def spread(self, b, value, kind):
        """A vector with one number everywhere."""
        undefined = self.ir.Constant(kind, self.ir.Undefined)
        first = b.insert_element(undefined, value, self.ir.Constant(self.i32, 0))
        mask = self.ir.Constant(self.ir.VectorType(self.i32, kind.count), [0] * kind.count)
        return b.shuffle_vector(first, undefined, mask)

    def loop(self, b, count, carried, body):
        """Run `body(b, index, values) → values` `count` times; the last values."""
        before, inside = b.block, b.append_basic_block("loop")
        after = b.append_basic_block("after")
        b.cbranch(b.icmp_signed(">", count, self.number(0)), inside, after)
        b.position_at_end(inside)
        index = b.phi(self.i64)
        index.add_incoming(self.number(0), before)
        values = [b.phi(start.type) for start in carried]
        for value, start in zip(values, carried, strict=True):
            value.add_incoming(start, before)
        results = body(b, index, values)
        following = b.add(index, self.number(1))
        end = b.block
        index.add_incoming(following, end)
        for value, result in zip(values, results, strict=True):
            value.add_incoming(result, end)
        b.cbranch(b.icmp_signed("<", following, count), inside, after)
        b.position_at_end(after)
        final = []
        for start, result in zip(carried, results, strict=True):
            final.append(b.phi(start.type))
            final[-1].add_incoming(start, before)
            final[-1].add_incoming(result, end)
        return final

    def each(self, name: str, counter: str, limit: str, chunk: int, body):
        """A function of a `Work` that takes the next few rows or tiles until none is left; any number may run at once."""
        function = self.ir.Function(self.unit, self.ir.FunctionType(self.ir.VoidType(), [self.pointer]), name)
        function.linkage = "internal"
        self.jobs.append(function)
        work = function.args[0]
        start, take, done, more = (function.append_basic_block(n) for n in ("start", "take", "done", "more"))
        b = self.ir.IRBuilder(start)
        total = self.get(b, work, limit)
        b.branch(take)
        b.position_at_end(take)
        place = b.gep(work, [self.number(FIELDS.index(counter))], source_etype=self.i64)
        first = b.atomic_rmw("add", place, self.number(chunk), "monotonic")
        b.cbranch(b.icmp_signed("<", first, total), more, done)
        b.position_at_end(more)
        left = b.sub(total, first)
        count = b.select(b.icmp_signed("<", left, self.number(chunk)), left, self.number(chunk))

        def one(b, index, _):
            body(b, work, b.add(first, index))
            return []

        self.loop(b, count, [], one)
        b.branch(take)
        b.position_at_end(done)
        b.ret_void()
        return function

    def entry(self, name: str, rounding, tiles) -> None:
        """What is called from outside: round x, then multiply, with whoever of the team is awake."""
        function = self.ir.Function(self.unit, self.ir.FunctionType(self.ir.VoidType(), [self.i64, self.i64]), name)
        b = self.ir.IRBuilder(function.append_basic_block("start"))
        work, team = (b.inttoptr(argument, self.pointer) for argument in function.args)
        free = b.cmpxchg(self.shared(b, team, "busy"), self.number(0), self.number(1), "seq_cst", "seq_cst")
        alone = b.not_(b.extract_value(free, 1))
        many = b.icmp_signed(">", self.get(b, work, "rows"), self.number(16))
        together = b.and_(many, b.not_(alone))
        with b.if_else(together) as (then, otherwise):
            with then:
                self.together(b, team, rounding, work)
            with otherwise:
                b.call(rounding, [work])
        with b.if_else(alone) as (then, otherwise):
            with then:
                b.call(tiles, [work])
            with otherwise:
                self.together(b, team, tiles, work)
                b.atomic_rmw("xchg", self.shared(b, team, "busy"), self.number(0), "seq_cst")
        b.ret_void()

    # -- the team --------------------------------------------------------------------------------

    def shared(self, b, team, name: str):
        """Where a word of the team's memory lies; each has a cache line of its own."""
        return b.gep(team, [self.number(LINE // 8 * TEAM.index(name))], source_etype=self.i64)

    def look(self, b, team, name: str):
        """A word of the team's memory as it is now."""
        return b.load_atomic(self.shared(b, team, name), "seq_cst", 8, typ=self.i64)

    def together(self, b, team, what, work) -> None:
        """Offer `what(work)` to the team, take part, and wait for those who joined; not for those who are late."""
        b.atomic_rmw("xchg", self.shared(b, team, "what"), self.number(self.jobs.index(what)), "seq_cst")
        b.atomic_rmw("xchg", self.shared(b, team, "work"), b.ptrtoint(work, self.i64), "seq_cst")
        b.atomic_rmw("add", self.shared(b, team, "round"), self.number(1), "seq_cst")
        b.atomic_rmw("xchg", self.shared(b, team, "open"), self.number(1), "seq_cst")
        b.call(what, [work])
        b.atomic_rmw("xchg", self.shared(b, team, "open"), self.number(0), "seq_cst")
        wait, done = b.append_basic_block("wait"), b.append_basic_block("done")
        b.branch(wait)
        b.position_at_end(wait)
        self.pause(b)
        b.cbranch(b.icmp_signed(">", self.look(b, team, "joined"), self.number(0)), wait, done)
        b.position_at_end(done)

    def pause(self, b) -> None:
        """Let whoever else wants this core run."""
        give_way = self.unit.globals.get(GIVE_WAY) or self.ir.Function(
            self.unit, self.ir.FunctionType(self.i32, []), GIVE_WAY
        )
        b.call(self.intrinsic("llvm.x86.sse2.pause", self.ir.VoidType()), [])
        b.call(give_way, [])

    def member(self) -> None:
        """What each other thread runs: take part whenever something is offered; return when nothing was for a while."""
        function = self.ir.Function(self.unit, self.ir.FunctionType(self.ir.VoidType(), [self.i64]), "member")
        names = ("start", "look", "join", "work", "leave", "idle", "again", "done")
        start, look, join, work, leave, idle, again, done = (function.append_basic_block(name) for name in names)
        b = self.ir.IRBuilder(start)
        team = b.inttoptr(function.args[0], self.pointer)
        b.branch(look)
        b.position_at_end(look)
        idles, last = b.phi(self.i64), b.phi(self.i64)
        number = self.look(b, team, "round")
        offered = b.icmp_signed("!=", self.look(b, team, "open"), self.number(0))
        b.cbranch(b.and_(offered, b.icmp_signed("!=", number, last)), join, idle)
        b.position_at_end(join)
        b.atomic_rmw("add", self.shared(b, team, "joined"), self.number(1), "seq_cst")
        b.cbranch(b.icmp_signed("!=", self.look(b, team, "open"), self.number(0)), work, leave)
        b.position_at_end(work)
        now = self.look(b, team, "round")
        given = b.inttoptr(self.look(b, team, "work"), self.pointer)
        finished = function.append_basic_block("finished")
        which = b.switch(self.look(b, team, "what"), finished)
        for index, job in enumerate(self.jobs):
            which.add_case(self.number(index), case := function.append_basic_block("job"))
            b.position_at_end(case)
            b.call(job, [given])
            b.branch(finished)
        b.position_at_end(finished)
        b.branch(leave)
        b.position_at_end(leave)
        seen = b.phi(self.i64)
        seen.add_incoming(last, join)
        seen.add_incoming(now, finished)
        b.atomic_rmw("sub", self.shared(b, team, "joined"), self.number(1), "seq_cst")
        b.branch(look)
        b.position_at_end(idle)
        self.pause(b)
        more = b.add(idles, self.number(1))
        b.cbranch(b.icmp_signed("<", more, self.number(PATIENCE)), again, done)
        b.position_at_end(again)
        b.branch(look)
        for phi, fresh in ((idles, self.number(0)), (last, self.number(-1))):
            phi.add_incoming(fresh, start)
        idles.add_incoming(self.number(0), leave)
        idles.add_incoming(more, again)
        last.add_incoming(seen, leave)
        last.add_incoming(last, again)
        b.position_at_end(done)
        b.ret_void()
