# SPDX-License-Identifier: LGPL-2.1-or-later
"""table.py - a group's results as a Markdown table, and as a chart's data.

A case without a result is in its group's table too, as not measured.
"""
from bench import cases
from bench.case import described, reached


def groups(results):
    return list(dict.fromkeys(c["group"] for c in results["cases"].values()))


def _cases(results, group):
    return {name: c for name, c in results["cases"].items() if c["group"] == group}


def _missing(results):
    return {name: described(c) for name, c in cases.defined().items() if name not in results["cases"]}


def figure(value):
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _ratio(value):
    return "-" if value is None else f"{value:.2f}"


def _goal(case):
    if case["most"] is not None:
        return f"at most {figure(case['most'])}" + (f", and {case['goal']:.3g}" if case["goal"] is not None else "")
    if case["goal"] is None:
        return ""
    also = "".join(f", {side} {goal:.3g}" for side, goal in (case.get("also") or {}).items())
    if case["limit"]:
        return f"{case['goal']} or {case['limit_goal']} of {case['limit']}{also}"
    return f"{case['goal']:.3g}{also}"


def _reached(case):
    return {True: "yes", False: "**no**", None: ""}[reached(case)]


def _spread(case):
    """The range of the rounds: the smallest and the largest figure of ours."""
    values = case["values"][case["ours"]]
    return f"{figure(min(values))} to {figure(max(values))}" if len(values) > 1 else ""


def _length(case):
    return f"{case['rounds']} x {case['seconds']:.3g} s"


def _dirty(case):
    """Measured from a tree with uncommitted changes, so not repeatable."""
    return str(case["version"]).endswith("-dirty")


def _columns(cases):
    """The sides of all, ours first, each once."""
    return list(dict.fromkeys(side for c in cases for side in c["sides"]))


def of(results, group):
    if group == "machine":
        return _machine(results)
    if group == "goals":
        return _goals(results)
    measured = _cases(results, group)
    missing = {name: c for name, c in _missing(results).items() if c["group"] == group}
    sides = _columns(measured.values()) or ["ours"]
    others = [s for s in sides if any(s in c["ratios"] for c in measured.values())]
    goals = any(_goal(c) for c in (*measured.values(), *missing.values()))
    cpu = any("cpu_us" in figures for c in measured.values() for figures in c["sides"].values())
    head = ["case", "unit", *sides, "range of ours", *(f"to {s}" for s in others)]
    if cpu:
        head += ["us of CPU, ours", "peer"]
    lengths = {_length(c) for c in measured.values()}
    if len(lengths) > 1:
        head += ["rounds"]
    if goals:
        head += ["goal", "reached"]
    rows = [head, ["---"] * 2 + ["---:"] * (len(head) - 2)]
    for name, c in measured.items():
        row = [name + " (dirty)" * _dirty(c), c["unit"], *(figure(c["sides"].get(s, {}).get("value")) for s in sides), _spread(c),
               *(_ratio(c["ratios"].get(s)) for s in others)]
        if cpu:
            row += [figure(c["sides"][s].get("cpu_us")) if s else "" for s in (c["ours"], c["peer"])]
        if len(lengths) > 1:
            row += [_length(c)]
        if goals:
            row += [_goal(c), _reached(c)]
        rows.append(row)
    for name, c in missing.items():
        row = [name, c["unit"], "not measured"]
        rows.append(row + ["-"] * (len(head) - len(row) - 2 * goals) + [_goal(c), ""] * goals)
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    if len(lengths) == 1:
        lines += ["", f"Rounds: {lengths.pop()}."]
    return "\n".join(lines)


def _facts(results):
    """What is known of machines and programs, as rows; where runs differ, each value with the groups of its cases."""
    known = {}
    for c in results["cases"].values():
        run = results["runs"][c["run"]]
        for key, value in {**run["machine"], **run["versions"]}.items():
            if value:
                known.setdefault(key, {}).setdefault(str(value), {})[c["group"]] = True
    for key, values in known.items():
        for value, names in values.items():
            yield key.replace("_", " "), value if len(values) == 1 else f"{value} ({', '.join(names)})"


def _not_noted(results):
    """The cases of older files, of which nobody noted the versions."""
    count = sum(results["runs"][c["run"]].get("last", False) for c in results["cases"].values())
    return [("versions", f"of {count} cases these are the last run's: they have none of their own")] if count else []


def _dirty_cases(results):
    dirty = sum(_dirty(c) for c in results["cases"].values())
    return [("dirty", f"{dirty} of {len(results['cases'])} cases, from trees with changes that were not committed")] if dirty else []


def _machine(results):
    tested = sorted({c["version"] for c in results["cases"].values()})
    times = sorted(c["time"] for c in results["cases"].values())
    rows = [("", ""), ("---", "---"), *_facts(results), *_not_noted(results), ("tapsnap", ", ".join(tested)),
            *_dirty_cases(results), ("measured", f"{times[0]} to {times[-1]}")]
    return "\n".join(f"| {key} | {value} |" for key, value in rows)


def _goals(results):
    """The list of missed goals, and what says nothing of them."""
    missed = [f"`{name}`" for name, c in results["cases"].items() if reached(c) is False]
    met = sum(reached(c) is True for c in results["cases"].values())
    unknown = sum(c["goal"] is not None or c["most"] is not None for c in _missing(results).values())
    return (f"{met} cases reach their goal." + (f" These do not: {', '.join(missed)}." if missed else "") +
            (f" {unknown} with a goal are not measured: the tables name them." if unknown else ""))


def ratios(results, group):
    """Chart data: one line per case with the ratio to its peer and the goal; empty if no case has a goal."""
    lines = []
    for name, c in _cases(results, group).items():
        ratio = c["ratios"].get(c["peer"])
        if ratio is not None:
            short = name.removeprefix(f"{group}-")
            lines.append(f'"{short}" {ratio:.4f} {c["goal"] if c["goal"] is not None else "NaN"}\n')
    return "".join(lines)
