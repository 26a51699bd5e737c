"""Generate functions in LLVM IR: loops, and work that threads share. Knows nothing of what is computed."""

from __future__ import annotations

FIELDS = (
    "next_row", "next_tile", "tiles", "blocks", "rows", "weight", "scales", "table", "x", "codes", "x_scales", "x_sums", "y",
    "stride", "unit",
)  # fmt: skip
"""Fields of a `kernels.ProductWork`, which documents them."""

TEAM = ("busy", "open", "round", "what", "work", "joined")
"""Words of shared memory of the thread team.

busy: a product is running; open: other threads may join; round: number of the offer; what, work: index of the function
and address of its argument; joined: number of threads that joined.
"""
LINE = 128
"""Bytes between them, so that they don't share a cache line."""
PATIENCE = 1_500
"""Number of polls for work before a thread sleeps: about half a millisecond, longer than torch needs between products.
"""
GIVE_WAY = "medfm_give_way"
"""Name of the system's function that yields the processor to another thread."""


class KernelCode:
    """An LLVM module under construction, for one vector width. In its methods `b` is the builder of the current block.

    Args:
        lanes: float32 numbers per vector.
        vnni: the CPU has an instruction that multiplies and adds four bytes at once.
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
        """Functions of a `ProductWork` that the team can share."""

    # -- basic operations ------------------------------------------------------------------------

    def intrinsic(self, name: str, result, *arguments):
        """Return one of LLVM's intrinsic functions, declared once.

        Args:
            name: of the intrinsic.
            result: its type.
            arguments: their types.
        """
        if name in self.unit.globals:
            return self.unit.globals[name]
        return self.ir.Function(self.unit, self.ir.FunctionType(result, arguments), name)

    def number(self, value: int):
        """Return an address-sized constant."""
        return self.ir.Constant(self.i64, value)

    def get(self, b, work, name: str):
        """Load a field of a `ProductWork`.

        Args:
            b: builder of the current block.
            work: pointer to it.
            name: of the field.
        """
        return b.load(b.gep(work, [self.number(FIELDS.index(name))], source_etype=self.i64), typ=self.i64)

    def at(self, b, base, offset, kind, align: int = 1):
        """Load the value at `offset` bytes after an address.

        Args:
            b: builder of the current block.
            base: the address.
            offset: bytes.
            kind: type of the value.
            align: alignment in bytes.
        """
        return b.load(b.inttoptr(b.add(base, offset), self.pointer), typ=kind, align=align)

    def put(self, b, value, base, offset):
        """Store a value `offset` bytes after an address.

        Args:
            b: builder of the current block.
            value: the value.
            base: the address.
            offset: bytes.
        """
        b.store(value, b.inttoptr(b.add(base, offset), self.pointer), align=1)

    def spread(self, b, value, kind):
        """Return a vector with the same number in every lane.

        Args:
            b: builder of the current block.
            value: the number.
            kind: type of the vector.
        """
        undefined = self.ir.Constant(kind, self.ir.Undefined)
        first = b.insert_element(undefined, value, self.ir.Constant(self.i32, 0))
        mask = self.ir.Constant(self.ir.VectorType(self.i32, kind.count), [0] * kind.count)
        return b.shuffle_vector(first, undefined, mask)

    def loop(self, b, count, carried, body):
        """Emit a loop that runs `body(b, index, values) → values` `count` times; return the last values.

        Args:
            b: builder of the current block.
            count: number of iterations.
            carried: values before the first iteration.
            body: emits one iteration.
        """
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
        """Emit a function of a `ProductWork` that takes the next rows or tiles until none is left.

        Several threads may run it together.

        Args:
            name: of the function.
            counter: field with the next index.
            limit: field with the number of indices.
            chunk: indices taken at a time.
            body: emits the work for one index, `(b, work, index)`.
        """
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
        """Emit the exported function: round x, then multiply, together with the awake threads of the team.

        Args:
            name: of the function.
            rounding: function that rounds rows.
            tiles: function that multiplies tiles.
        """
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
        """Return the address of a word of the team's memory; each has its own cache line.

        Args:
            b: builder of the current block.
            team: pointer to the memory.
            name: of the word.
        """
        return b.gep(team, [self.number(LINE // 8 * TEAM.index(name))], source_etype=self.i64)

    def look(self, b, team, name: str):
        """Load the current value of a word of the team's memory.

        Args:
            b: builder of the current block.
            team: pointer to the memory.
            name: of the word.
        """
        return b.load_atomic(self.shared(b, team, name), "seq_cst", 8, typ=self.i64)

    def together(self, b, team, what, work) -> None:
        """Emit code that offers `what(work)` to the team, takes part, and waits only for the threads that joined.

        Args:
            b: builder of the current block.
            team: pointer to the team's memory.
            what: function of a `ProductWork`.
            work: pointer to its argument.
        """
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
        """Yield the core to other threads."""
        give_way = self.unit.globals.get(GIVE_WAY) or self.ir.Function(
            self.unit, self.ir.FunctionType(self.i32, []), GIVE_WAY
        )
        b.call(self.intrinsic("llvm.x86.sse2.pause", self.ir.VoidType()), [])
        b.call(give_way, [])

    def member(self) -> None:
        """Emit the function of the other threads: take part whenever work is offered; return after a while without any."""
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
