"""A page in a real browser without a network: what a probe in it finds, and what the browser complains of."""

import json
import os
import re
import subprocess
from html import unescape
from pathlib import Path
from typing import Any, NamedTuple

from external_tools import tool

# The page stands in a frame as wide as a phone or a screen (a browser's own window cannot be that narrow); what the
# probe finds out there comes back as a message.
OUTER = """<!doctype html><body style="margin:0"><iframe src="page.html" style="border:0;width:{width}px;height:4000px">
</iframe><pre id="found"></pre><script>
addEventListener("message", (event) => {{ document.getElementById("found").textContent = event.data; }});
</script></body>"""
PROBE = """<script>
addEventListener("load", () => setTimeout(async () => {{
  const all = (query, root = document) => [...root.querySelectorAll(query)];
  const plots = () => all("article.run:not([hidden]) .plot");
  const nap = () => new Promise((done) => setTimeout(done, 200));
  const count = (plot) => plot.querySelectorAll(".scatterlayer .trace").length;
  let found;
  try {{ found = await (async () => {{ {probe} }})(); }} catch (error) {{ found = "failed: " + error.stack; }}
  parent.postMessage(JSON.stringify(found), "*");
}}, 300));
</script></body>"""


class Seen(NamedTuple):
    found: Any
    console: list[str]


def browse_page(folder: Path, probe: str, width: int = 1280) -> Seen:
    """Open page.html and run the probe in it: JavaScript that returns something.  That, and what was complained."""
    chromium = tool("chromium")
    page = (folder / "page.html").read_text()
    head, _, tail = page.rpartition("</body>")
    (folder / "page.html").write_text(head + PROBE.format(probe=probe) + tail)
    (folder / "outer.html").write_text(OUTER.format(width=width))
    arguments = [
        chromium, "--headless=new", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder / 'profile'}", "--window-size=1400,4000",
        "--enable-logging=stderr", "--virtual-time-budget=20000", "--dump-dom",
    ]  # fmt: skip
    if os.geteuid() == 0:  # its sandbox does not work for root
        arguments.append("--no-sandbox")
    arguments.append((folder / "outer.html").as_uri())
    done = subprocess.run(arguments, capture_output=True, check=False, timeout=120)
    text = done.stdout.decode()
    found = re.search(r'<pre id="found">(.*?)</pre>', text, re.DOTALL)
    assert found is not None and found[1], done.stderr.decode(errors="replace")[-2_000:]
    console = [line for line in done.stderr.decode(errors="replace").splitlines() if "CONSOLE" in line]
    return Seen(json.loads(unescape(found[1])), console)
