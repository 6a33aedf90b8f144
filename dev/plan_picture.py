"""Draws the README's picture: what a LoRA run of SmolLM2-135M needs, as the program plans it.

    plan_picture.py [OUTPUT.svg]        from the root of the repository; OUTPUT defaults to dev/notes/plan.svg

Runs `./train_llama_lora plan --json` for each bar. The lengths and numbers are what it prints.
"""

import json
import shlex
import subprocess
import sys

PLAN = "plan --config dev/bench/smollm2-135m.json --dtype fp32 --seq-len 1024 --threads 2"
BARS = ["", "--weights bf16", "--recompute full", "--recompute full --weights bf16"]
COLORS = {
    "parameters": "#4269d0",
    "gradients": "#ff8a3d",
    "optimizer": "#c93f5f",
    "activations": "#3a9e78",
    "scratch": "#8a6bbf",
}
WIDTH, LEFT, BAR, STEP, TOP = 860, 20, 26, 62, 104
FONT = "ui-monospace, Menlo, Consolas, monospace"
MIB = 1 << 20


def planned(options: str) -> dict:
    command = shlex.split(f"./train_llama_lora {PLAN} --memory 1TiB --json {options}")
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["bytes"]


def text(x: float, y: float, content: str, size: int = 13, color: str = "#24292f", **attributes: str) -> str:
    extra = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in attributes.items())
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{color}"{extra}>{content}</text>'


def main() -> None:
    plans = [planned(options) for options in BARS]
    room = WIDTH - 2 * LEFT
    scale = room / max(plan["total"] for plan in plans)
    height = TOP + STEP * len(BARS)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" font-family="{FONT}">',
        "<title>The memory of one LoRA run of SmolLM2-135M, as planned</title>",
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#ffffff"/>',
        text(LEFT, 32, "A LoRA run of SmolLM2-135M: every byte, before anything is allocated", 16, font_weight="bold"),
        text(LEFT, 54, f"$ ./train_llama_lora {PLAN}", 12, "#57606a"),
    ]
    x = LEFT
    for name, color in COLORS.items():
        out.append(f'<rect x="{x}" y="70" width="12" height="12" rx="2" fill="{color}"/>')
        out.append(text(x + 18, 81, name, 12))
        x += 32 + 8 * len(name)
    for i, (options, plan) in enumerate(zip(BARS, plans)):
        y = TOP + STEP * i
        out.append(text(LEFT, y + 12, options or "as above", 12))
        total = f"{plan['total'] / MIB:,.0f} MiB ({plan['total']:,} bytes)"
        out.append(text(WIDTH - LEFT, y + 12, total, 12, text_anchor="end"))
        x = LEFT
        for name, color in COLORS.items():
            width = plan[name] * scale
            out.append(f'<rect x="{x:.1f}" y="{y + 20}" width="{width:.1f}" height="{BAR}" fill="{color}"/>')
            if width > 60:
                label = f"{plan[name] / MIB:,.0f}" + (" MiB" if width > 90 else "")
                out.append(text(x + width / 2, y + 38, label, 12, "#ffffff", text_anchor="middle"))
            x += width
    out.append("</svg>")
    with open(sys.argv[1] if len(sys.argv) > 1 else "dev/notes/plan.svg", "w", encoding="utf-8") as file:
        file.write("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
