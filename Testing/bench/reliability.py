"""What agreement, abstention and the blind control are worth on the embedded model: tables, on cases that training left out.

    python Testing/bench/reliability.py [--data DIR] [--per-kind 14] [--samples 10] [--save FILE] [--from FILE]
                                        [--plot FILE] [--cost]

Agreement: a calibration is fitted on half of the cases and judged on the other half, and the other way round.
Blind control: the model as it is, and the same model made to answer without the image in three ways: it is always
shown grey, it is always shown one and the same other slice, or what its vision tower says is wiped out.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

import numpy as np

from MedFMLib.reliability import controls
from MedFMLib.reliability.diagram import reliability
from MedFMLib.tasks.explain import hidings
from MedFMLib.training.embedded import bench_reliability
from MedFMLib.training.embedded.bench_reliability import Outcome
from MedFMLib.training.embedded.bench_runtime import open_model, shipped
from MedFMLib.training.embedded.bench_tables import Table, as_text
from MedFMLib.training.embedded.cases import Images

BLINDED = ("always shown grey", "always shown one other slice", "vision tower wiped out")


class Blindfolded:
    """The model, shown something else than what it is given: its answers can't come from the image."""

    def __init__(self, runtime, change):
        self._runtime, self._change = runtime, change

    def write(self, views, text="", **options):
        return self._runtime.write([self._change(view) for view in views], text, **options)

    def write_many(self, views, texts, **options):
        return self._runtime.write_many([self._change(view) for view in views], texts, **options)

    def score(self, shown, text, answer, **options):
        return self._runtime.score([[self._change(view) for view in views] for views in shown], text, answer, **options)


def ask(options) -> dict[str, list[Outcome]]:
    """Everything that is asked: the model as it is, and blindfolded."""
    runtime = open_model(shipped()).runtime
    asked = bench_reliability.questions(Images(options.data).for_questions()[0], options.per_kind)
    other = asked[0][0].view

    def tell(number):
        print(f"\r{number} of {len(asked)}", end="", file=sys.stderr, flush=True)

    found = {bench_reliability.AS_IT_IS: bench_reliability.ask_all(runtime, asked, options.samples, 1.0, True, tell)}
    changes = {
        BLINDED[0]: lambda view: replace(view, pixels=np.full_like(view.pixels, 128)),
        BLINDED[1]: lambda view: replace(other, number=0),
    }
    some = asked[::3]
    for name, change in changes.items():
        found[name] = bench_reliability.ask_all(Blindfolded(runtime, change), some, blind=True)
    core = runtime.model.get_base_model() if hasattr(runtime.model, "get_base_model") else runtime.model
    hook = core.model.multi_modal_projector.register_forward_hook(lambda module, given, out: out * 0)
    found[BLINDED[2]] = bench_reliability.ask_all(runtime, some, blind=True)
    hook.remove()
    return found


def cost(options) -> Table:
    """What each way of looking into an answer takes, in seconds and in answers; the ways take turns."""
    runtime = open_model(shipped()).runtime
    asked = bench_reliability.questions(Images(options.data, quick=True).for_questions()[0], 1)[:12]

    def without(view, text, said):
        hidden = [views[0] for views in controls([view]).values()]
        runtime.write_many(hidden, [text] * len(hidden))
        runtime.score([[view], *([other] for other in hidden)], text, said)

    ways = {
        "the answer": lambda view, text, said: runtime.write([view], text),
        f"agreement, {options.samples} samples": lambda view, text, said: runtime.sample([view], text, options.samples),
        "blind control": without,
        "attention": lambda view, text, said: runtime.attention([view], text, said),
        "occlusion": lambda view, text, said: runtime.score([[v] for _, v in [(0, view), *hidings(view)]], text, said),
    }
    took = {name: [] for name in ways}
    for probe, exchange in asked:
        text = exchange.prompt.removeprefix("answer en ")
        said = runtime.write([probe.view], text)
        for name, way in ways.items():
            began = time.perf_counter()
            way(probe.view, text, said)
            took[name].append(time.perf_counter() - began)
    first = float(np.median(took["the answer"]))
    rows = [[name, float(np.median(some)), f"{np.median(some) / first:.1f} ×"] for name, some in took.items()]
    return Table("Cost", f"Median of {len(asked)} questions, embedded model.", ("what", "seconds", "answers"), rows)


def main() -> None:
    """Ask, or read what was asked, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--per-kind", type=int, default=14)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--save", type=Path)
    parser.add_argument("--from", dest="kept", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--cost", action="store_true", help="only how long each way takes")
    options = parser.parse_args()
    if options.cost:
        print(as_text(cost(options)))
        return
    if options.kept:
        found = {
            name: [Outcome(**{k: tuple(v) if isinstance(v, list) else v for k, v in o.items()}) for o in some]
            for name, some in json.loads(options.kept.read_text()).items()
        }
    elif options.data.is_dir():
        found = ask(options)
    else:
        sys.exit(f"There is no folder '{options.data}' with test images; give it with --data (docs/data.md).")
    if options.save:
        options.save.write_text(json.dumps({name: [asdict(o) for o in some] for name, some in found.items()}))
    judged, before, after = bench_reliability.judge(found[bench_reliability.AS_IT_IS])
    print(as_text(bench_reliability.answered_table(judged, after)), end="\n\n")
    print(as_text(bench_reliability.error_table(judged, before, after)), end="\n\n")
    print(as_text(bench_reliability.blind_table(found)))
    if options.plot:
        options.plot.write_text(reliability(after, [o.right for o in judged], before))


if __name__ == "__main__":
    main()
