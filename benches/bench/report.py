"""The table, in Markdown, and what was missed."""

import os
import platform
from pathlib import Path


def number(value):
    """Three significant digits, and no exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def values(benchmark, index, peers, results):
    """Returns {peer's name: its number, in the row's unit} of those that have one."""
    row = benchmark.rows[index]
    measured = {peer.name: results.get((benchmark.name, peer.name)) for peer in peers}
    return {
        name: benchmark.summary([each[index] for each in all_of_it]) / row.divisor
        for name, all_of_it in measured.items()
        if all_of_it
    }


def rows(benchmarks):
    for benchmark in benchmarks:
        for index, row in enumerate(benchmark.rows):
            yield benchmark, index, row


def table(benchmarks, peers, results):
    """One table: a row an aspect, a column a peer, ratios to the native run first."""
    head = ["", "limit", *(peer.name for peer in peers)]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for benchmark, index, row in rows(benchmarks):
        found = values(benchmark, index, peers, results)
        native = found.get("native")
        cells = []
        for peer in peers:
            value = found.get(peer.name)
            if value is None:
                cells.append("–")
            elif peer.name == "native" or native is None:
                cells.append(f"{number(value)} {row.unit}")
            else:
                cells.append(f"{number(value / native)} × ({number(value)} {row.unit})")
        lines.append(f"| {row.label} | {row.goal()} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


# What stands between these in a document was made by the command.
BEGIN, END = "<!-- made by benches/run -->\n", "<!-- end -->\n"


def replace(document, text):
    """Puts a table into a document, in place of the last one."""
    before, rest = document.read_text().split(BEGIN)
    document.write_text(f"{before}{BEGIN}{text}{END}{rest.split(END)[1]}")


def missed(benchmarks, peers, results):
    """A line for each limit that picovisor does not keep."""
    lines = []
    for benchmark, index, row in rows(benchmarks):
        found = values(benchmark, index, peers, results)
        native = found.get("native")
        for peer in peers:
            value = found.get(peer.name)
            if not peer.is_picovisor or value is None or row.is_met(value, native, peer.is_served) is not False:
                continue
            ratio = f", {number(value / native)} × native" if native else ""
            lines.append(f"{peer.name}: {row.label}: {number(value)} {row.unit}{ratio}; the limit is {row.goal()}")
    return lines


def machine():
    """One line about where the numbers come from."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    flavour = next((name for name in ["kvm_intel", "kvm_amd", "kvm_pvm"] if Path("/sys/module", name).exists()), "?")
    return f"{model}, {os.cpu_count()} CPUs, Linux {platform.release()}, KVM module {flavour}"
