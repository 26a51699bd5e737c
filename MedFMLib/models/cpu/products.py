"""Generate the products of `kernels` in LLVM IR: rounding activations, multiplying bytes, summing blocks."""

from __future__ import annotations

from .code import FIELDS, KernelCode

BLOCK = 64
"""Columns that share a scale."""

GROUPS = {16: (8, 4, 1), 8: (2, 1)}
"""Lanes → numbers of rows of activations that are multiplied with a weight after one look-up."""


OUTLIER = 10.0
"""Ratio of largest to mean size in a block above which a value is an outlier; Gaussian blocks have about 3."""
FINER = 254.0
"""Factor by which the rounding remainder is scaled before it is rounded: from half a step to 127 steps."""


class Products(KernelCode):
    """Generator of the kernels; `kernels` documents the layout of weights.

    In its methods `b` is the builder of the current block.
    """

    def module(self) -> str:
        """Return the text of all kernels."""
        for dtype in ("bf16", "fp32"):
            rounding = self.each(
                f"round_{dtype}", "next_row", "rows", 8, lambda b, w, n, dtype=dtype: self.round_row(b, w, n, dtype)
            )
            finely = self.each(f"round_finely_{dtype}", "next_row", "rows", 1,
                               lambda b, w, n, dtype=dtype: self.round_row(b, w, n, dtype, fine=True))  # fmt: skip
            for bits in (4, 8):
                tiles = self.each(f"tiles_{bits}_{dtype}", "next_tile", "tiles", 4,
                                  lambda b, w, n, bits=bits, dtype=dtype: self.tile(b, w, n, bits, dtype))  # fmt: skip
                self.entry(f"multiply_{bits}_{dtype}", rounding, tiles)
                tiles = self.each(f"fine_tiles_{bits}_{dtype}", "next_tile", "tiles", 4,
                                  lambda b, w, n, bits=bits, dtype=dtype: self.fine_tile(b, w, n, bits, dtype))  # fmt: skip
                self.entry(f"multiply_finely_{bits}_{dtype}", finely, tiles)
        self.member()
        return str(self.unit)

    def round_row(self, b, work, row, dtype: str, fine: bool = False) -> None:
        """Emit the rounding of one row of x to int8, with scale and sum for each block.

        Args:
            b: builder of the current block.
            work: pointer to the `ProductWork`.
            row: index of the row.
            dtype: "bf16" or "fp32", of x.
            fine: write two rows of codes for one of x, the second for the rounding remainder; its scale is 0 in blocks
                without outliers, where it is not needed.
        """
        ir, wide = self.ir, 16
        floats = ir.VectorType(self.f32, wide)
        blocks = self.get(b, work, "blocks")
        x, codes = self.get(b, work, "x"), self.get(b, work, "codes")
        scales, sums = self.get(b, work, "x_scales"), self.get(b, work, "x_sums")
        unit = b.load(b.gep(work, [self.number(FIELDS.index("unit"))], source_etype=self.i64), typ=self.f32)
        size = 2 if dtype == "bf16" else 4
        absolute = self.intrinsic(f"llvm.fabs.v{wide}f32", floats, floats)
        largest = self.intrinsic(f"llvm.maxnum.v{wide}f32", floats, floats, floats)
        across = self.intrinsic(f"llvm.vector.reduce.fmax.v{wide}f32", self.f32, floats)
        nearest = self.intrinsic(f"llvm.rint.v{wide}f32", floats, floats)
        sum_up = self.intrinsic(f"llvm.vector.reduce.fadd.v{wide}f32", self.f32, self.f32, floats)
        ints = ir.VectorType(self.i32, wide)
        add = self.intrinsic(f"llvm.vector.reduce.add.v{wide}i32", self.i32, ints)

        def block(b, number, _):
            start = b.add(b.mul(row, blocks), number)
            column = b.mul(start, self.number(BLOCK))
            parts = []
            for part in range(BLOCK // wide):
                offset = b.mul(b.add(column, self.number(part * wide)), self.number(size))
                if dtype == "bf16":
                    half = self.at(b, x, offset, ir.VectorType(self.i16, wide))
                    shift = ir.Constant(ints, [16] * wide)
                    parts.append(b.bitcast(b.shl(b.zext(half, ints), shift), floats))
                else:
                    parts.append(self.at(b, x, offset, floats))
            most = b.call(absolute, [parts[0]])
            for part in parts[1:]:
                most = b.call(largest, [most, b.call(absolute, [part])])
            most = b.call(across, [most])
            if fine:
                mass = b.call(absolute, [parts[0]])
                for part in parts[1:]:
                    mass = b.fadd(mass, b.call(absolute, [part]))
                mass = b.call(sum_up, [ir.Constant(self.f32, 0.0), mass], fastmath=("reassoc",))
                usual = b.fmul(mass, ir.Constant(self.f32, OUTLIER / BLOCK))
                needed = b.fcmp_ordered(">", most, usual)
            scale = b.fmul(b.fmul(most, ir.Constant(self.f32, 1 / 127)), unit)
            tiny = b.fcmp_ordered("<", most, ir.Constant(self.f32, 1e-30))
            factor = b.select(tiny, ir.Constant(self.f32, 0.0), b.fdiv(ir.Constant(self.f32, 127.0), most))
            factor = self.spread(b, factor, floats)
            target = b.add(b.mul(b.mul(row, self.number(2)), blocks), number) if fine else start
            for again in range(1 + fine):
                column, total, rest = b.mul(target, self.number(BLOCK)), None, []
                for number, part in enumerate(parts):
                    scaled = b.fmul(part, factor) if not again else part
                    rounded = b.call(nearest, [scaled])
                    rest.append(b.fmul(b.fsub(scaled, rounded), ir.Constant(floats, [FINER] * wide)))
                    whole = b.fptosi(rounded, ints)
                    total = whole if total is None else b.add(total, whole)
                    small = b.trunc(whole, ir.VectorType(self.i8, wide))
                    self.put(b, small, codes, b.add(column, self.number(number * wide)))
                four = b.mul(target, self.number(4))
                self.put(b, scale, scales, four)
                bias = ir.Constant(self.i32, -128 if self.vnni else 0)
                self.put(b, b.mul(b.call(add, [total]), bias), sums, four)
                parts, target = rest, b.add(target, blocks)
                if fine:
                    finer = b.fmul(scale, ir.Constant(self.f32, 1 / FINER))
                    scale = b.select(needed, finer, ir.Constant(self.f32, 0.0))
            return []

        self.loop(b, blocks, [], block)

    def dot(self, b, total, weights, codes):
        """Return `total` plus the products of bytes, four neighbours summed.

        Args:
            b: builder of the current block.
            total: int32 vector.
            weights: byte vector.
            codes: the same four bytes in every lane.
        """
        width = 32 * self.lanes
        if self.vnni:
            name = f"llvm.x86.avx512.vpdpbusd.{width}"
            multiply = self.intrinsic(name, self.ints, self.ints, self.bytes, self.bytes)
            return b.call(multiply, [total, weights, b.bitcast(codes, self.bytes)])
        shorts = self.ir.VectorType(self.i16, 2 * self.lanes)
        sign = self.intrinsic("llvm.x86.avx2.psign.b", self.bytes, self.bytes, self.bytes)
        size = self.intrinsic("llvm.abs.v32i8", self.bytes, self.bytes, self.ir.IntType(1))
        pairs = self.intrinsic("llvm.x86.avx2.pmadd.ub.sw", shorts, self.bytes, self.bytes)
        fours = self.intrinsic("llvm.x86.avx2.pmadd.wd", self.ints, shorts, shorts)
        magnitude = b.call(size, [weights, self.ir.Constant(self.ir.IntType(1), 0)])
        signed = b.call(sign, [b.bitcast(codes, self.bytes), weights])
        ones = self.ir.Constant(shorts, [1] * (2 * self.lanes))
        return b.add(total, b.call(fours, [b.call(pairs, [magnitude, signed]), ones]))

    def looked_up(self, b, table, codes):
        """Return 16 bytes of a table, indexed by codes of 0…15.

        Args:
            b: builder of the current block.
            table: byte vector.
            codes: byte vector.
        """
        name = "llvm.x86.avx512.pshuf.b.512" if self.lanes == 16 else "llvm.x86.avx2.pshuf.b"
        return b.call(self.intrinsic(name, self.bytes, self.bytes, self.bytes), [table, codes])

    def tile(self, b, work, tile, bits: int, dtype: str) -> None:
        """Emit the product of one tile of the weight with all rows of x.

        Args:
            b: builder of the current block.
            work: pointer to the `ProductWork`.
            tile: index of the tile.
            bits: 4 or 8.
            dtype: "bf16" or "fp32", of x and y.
        """
        done = self.number(0)
        rows = self.get(b, work, "rows")
        for size in GROUPS[self.lanes]:
            count = b.sdiv(b.sub(rows, done), self.number(size))

            def some(b, index, _, size=size, done=done):
                first = b.add(done, b.mul(index, self.number(size)))
                self.group(b, work, tile, first, size, bits, dtype)
                return []

            self.loop(b, count, [], some)
            done = b.add(done, b.mul(count, self.number(size)))

    def fine_tile(self, b, work, tile, bits: int, dtype: str) -> None:
        """Emit the product of one tile with rows of x that were rounded finely.

        Args:
            b: builder of the current block.
            work: pointer to the `ProductWork`.
            tile: index of the tile.
            bits: 4 or 8.
            dtype: "bf16" or "fp32", of x and y.
        """

        def one(b, index, _):
            self.group(b, work, tile, b.mul(index, self.number(2)), 2, bits, dtype, joined=True)
            return []

        self.loop(b, self.get(b, work, "rows"), [], one)

    def group(self, b, work, tile, first, size: int, bits: int, dtype: str, joined: bool = False) -> None:
        """Emit the product of one tile with `size` rows of codes.

        Args:
            b: builder of the current block.
            work: pointer to the `ProductWork`.
            tile: index of the tile.
            first: index of the first row of codes.
            size: number of rows of codes.
            bits: 4 or 8.
            dtype: "bf16" or "fp32", of y.
            joined: the two rows of codes are the rounded row and the remainder of one row of x.
        """
        ir, lanes = self.ir, self.lanes
        blocks = self.get(b, work, "blocks")
        width = b.mul(blocks, self.number(BLOCK))
        block_bytes = BLOCK * lanes * bits // 8
        weight = b.add(self.get(b, work, "weight"), b.mul(b.mul(tile, blocks), self.number(block_bytes)))
        scale = b.add(self.get(b, work, "scales"), b.mul(b.mul(tile, blocks), self.number(2 * lanes)))
        codes = b.add(self.get(b, work, "codes"), b.mul(first, width))
        skip = b.mul(b.mul(first, blocks), self.number(4))
        x_scales, x_sums = b.add(self.get(b, work, "x_scales"), skip), b.add(self.get(b, work, "x_sums"), skip)
        if bits == 4:
            once = self.at(b, self.get(b, work, "table"), self.number(0), self.bytes)
            low_half, four = (
                ir.Constant(self.bytes, [15] * (4 * lanes)),
                ir.Constant(ir.VectorType(self.i16, 2 * lanes), [4] * (2 * lanes)),
            )
        convert = ir.VectorType(ir.HalfType(), lanes)
        fma = self.intrinsic(f"llvm.fma.v{lanes}f32", self.floats, self.floats, self.floats, self.floats)

        def products(b, number, rows: list[int], sums):
            here = b.mul(number, self.number(block_bytes))
            column = b.add(codes, b.mul(number, self.number(BLOCK)))
            four_bytes = b.mul(number, self.number(4))
            lines = [b.add(column, b.mul(width, self.number(row))) for row in rows]
            places = [b.add(four_bytes, b.mul(blocks, self.number(4 * row))) for row in rows]
            totals = [self.spread(b, self.at(b, x_sums, place, self.i32), self.ints) for place in places]

            def add(vector, offset):
                for n, line in enumerate(lines):
                    code = self.spread(b, self.at(b, line, self.number(offset), self.i32), self.ints)
                    totals[n] = self.dot(b, totals[n], vector, code)

            for step in range(BLOCK * bits // 8 // 4):
                vector = self.at(b, weight, b.add(here, self.number(step * 4 * lanes)), self.bytes)
                if bits == 8:
                    add(vector, 4 * step)
                    continue
                shifted = b.bitcast(b.lshr(b.bitcast(vector, four.type), four), self.bytes)
                add(self.looked_up(b, once, b.and_(vector, low_half)), 8 * step)
                add(self.looked_up(b, once, b.and_(shifted, low_half)), 8 * step + 4)
            factor = b.fpext(self.at(b, scale, b.mul(number, self.number(2 * lanes)), convert), self.floats)
            results = []
            for place, total, before in zip(places, totals, sums, strict=True):
                both = b.fmul(factor, self.spread(b, self.at(b, x_scales, place, self.f32), self.floats))
                results.append(b.call(fma, [b.sitofp(total, self.floats), both, before]))
            return results

        def block(b, number, sums):
            if not joined:
                return products(b, number, list(range(size)), sums)
            (coarse,) = products(b, number, [0], sums)
            rest = b.mul(b.add(blocks, number), self.number(4))
            needed = b.fcmp_ordered("!=", self.at(b, x_scales, rest, self.f32), ir.Constant(self.f32, 0.0))
            before = b.block
            with b.if_then(needed, likely=False):
                (finer,) = products(b, number, [1], [coarse])
                inside = b.block
            value = b.phi(self.floats)
            value.add_incoming(coarse, before)
            value.add_incoming(finer, inside)
            return [value]

        nothing = ir.Constant(self.floats, [0.0] * lanes)
        sums = self.loop(b, blocks, [nothing] * (1 if joined else size), block)
        y, stride = self.get(b, work, "y"), self.get(b, work, "stride")
        if joined:
            first = b.sdiv(first, self.number(2))
        for row, value in enumerate(sums):
            place = b.add(b.mul(b.add(first, self.number(row)), stride), b.mul(tile, self.number(lanes)))
            if dtype == "fp32":
                self.put(b, value, y, b.mul(place, self.number(4)))
            else:
                self.put(b, self.halved(b, value), y, b.mul(place, self.number(2)))

    def halved(self, b, value):
        """Return float32 rounded to the nearest bfloat16, ties to even, as 16-bit numbers.

        Args:
            b: builder of the current block.
            value: float32 vector.
        """

        def all_of(number):
            return self.ir.Constant(self.ints, [number] * self.lanes)

        whole = b.bitcast(value, self.ints)
        odd = b.and_(b.lshr(whole, all_of(16)), all_of(1))
        rounded = b.lshr(b.add(whole, b.add(odd, all_of(0x7FFF))), all_of(16))
        return b.trunc(rounded, self.ir.VectorType(self.i16, self.lanes))
