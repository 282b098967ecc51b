#!/usr/bin/env python3
"""Makes an animated picture of a command on a terminal: `docs/cast.py OUT.svg COMMAND...`.

The command runs on a terminal of its own; each line appears in the picture when it appeared there. The picture is an SVG of text and
CSS, so that it is small, sharp, and plays where no script may. README's picture of `skiff demo --auto` is made by it.
"""

import html
import os
import pty
import re
import subprocess
import sys
import time

COLUMNS, LINE_PX, CHAR_PX, PAD_PX = 100, 20, 8.43, 16
HOLD_SECONDS = 4
COLOURS = {"31": "#ff7b72", "32": "#3fb950", "33": "#d29922", "36": "#39c5cf", "1": "#ffffff", "2": "#8b949e"}
ESCAPE = re.compile(r"\x1b\[([0-9;]*)m")
OTHER = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07|\r")


def record(command):
    """The lines that a command prints, each with the second at which it was there."""
    parent, child = pty.openpty()
    os.environ["COLUMNS"] = str(COLUMNS)
    began = time.monotonic()
    process = subprocess.Popen(command, stdin=child, stdout=child, stderr=child, close_fds=True)
    os.close(child)
    lines, rest = [], b""
    while True:
        try:
            piece = os.read(parent, 4096)
        except OSError:
            break
        if not piece:
            break
        *whole, rest = (rest + piece).split(b"\n")
        now = time.monotonic() - began
        lines += [(now, line.decode("utf-8", "replace")) for line in whole]
    if process.wait() != 0:
        sys.exit(f"{command[0]} failed:\n" + "\n".join(text for _, text in lines))
    return lines


def spans(text):
    """A line with its colours as SVG."""
    text = re.sub(r"\x1b\[([A-Za-ln-z]|[0-9;?]*[A-Za-ln-z])", "", text)
    out, at, colour = "", 0, None
    for match in [*ESCAPE.finditer(text), None]:
        piece = OTHER.sub("", text[at : match.start() if match else len(text)])
        # What lets somebody in is nobody's picture.
        piece = re.sub(r"#token=\S+", "#token=…", piece)
        if piece:
            fill = f' fill="{colour}"' if colour else ""
            out += f"<tspan{fill}>{html.escape(piece)}</tspan>"
        if match:
            colour = next((COLOURS[c] for c in match[1].split(";") if c in COLOURS), None)
            at = match.end()
    return out


def picture(prompt, lines):
    lines = [(0.0, f"\x1b[32m$\x1b[0m {prompt}"), *lines]
    total = lines[-1][0] + HOLD_SECONDS
    columns = max(len(OTHER.sub("", ESCAPE.sub("", text)).rstrip()) for _, text in lines)
    width, height = int(columns * CHAR_PX) + 2 * PAD_PX, len(lines) * LINE_PX + 2 * PAD_PX
    style, rows = [], []
    for n, (at, text) in enumerate(lines):
        share = 100 * at / total
        # A reader who wants no motion sees all of it.
        style.append(f"@keyframes l{n}{{0%,{max(share - 0.01, 0):.2f}%{{opacity:0}}{share:.2f}%,100%{{opacity:1}}}}.l{n}{{animation:l{n} {total:.1f}s infinite}}")
        rows.append(f'<text class="l{n}" x="{PAD_PX}" y="{PAD_PX + (n + 0.75) * LINE_PX:.0f}" xml:space="preserve">{spans(text)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
        f"<title>{html.escape(prompt)}</title><style>text{{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;fill:#e6edf3}}"
        f"@media (prefers-reduced-motion: no-preference){{{''.join(style)}}}</style>"
        f'<rect width="{width}" height="{height}" rx="8" fill="#0d1117"/>{"".join(rows)}</svg>\n'
    )


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    recorded = record(sys.argv[2:])
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        file.write(picture(" ".join([os.path.basename(sys.argv[2]), *sys.argv[3:]]), recorded))
