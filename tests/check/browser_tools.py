"""What the tests of the pages are made with: tabs, sizes, and a host of blobs that misbehaves on order."""

import os
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from axe_playwright_python.sync_playwright import Axe

HOSTILE = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
PHONE, TABLET, DESK = {"width": 390, "height": 840}, {"width": 768, "height": 1024}, {"width": 1280, "height": 900}
SIZES, SCHEMES = (PHONE, TABLET, DESK), ("light", "dark")
# Each test is run at each of them, in a process of its own: `390-light`.
LOOKS = {f"{size['width']}-{scheme}": (size, scheme) for size in SIZES for scheme in SCHEMES}
LOOK = os.environ.get("LOOK", "1280-light")
SIZE, SCHEME = LOOKS[LOOK]
# Longer than two steps of the history.
SOON_MS = 20_000
# What is wider than the window, or than what it is in without a way to scroll there.
CLIPPED = """() => [...document.querySelectorAll("body *")].filter((one) => {
  if (one.closest("svg, .skip, .hidden, noscript, [hidden], thead") || !one.getClientRects().length) return false;
  const box = one.getBoundingClientRect(), style = getComputedStyle(one);
  const scrolls = one.closest(".scroll, pre, textarea, .side");
  if (one.matches(".scroll") && one.scrollWidth > one.clientWidth + 1) return true;
  if (!scrolls && (box.right > innerWidth + 1 || box.left < -1)) return true;
  return !scrolls && style.overflowX !== "visible" && one.scrollWidth > one.clientWidth + 1 && !/INPUT|SELECT|TEXTAREA/.test(one.tagName);
}).map((one) => one.outerHTML.slice(0, 200))"""


@contextmanager
def tab(browser, url, quiet=True, scheme=SCHEME, **media):
    """A page in a session of its own. Ends with an error if its console told of one, if it asked another host for anything, or if
    something is clipped as the test leaves it."""
    context = browser.new_context(viewport=SIZE, color_scheme=scheme, **media)
    page = context.new_page()
    page.set_default_timeout(SOON_MS)
    told, asked = [], []
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("console", lambda message: told.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    yield page
    assert_whole(page)
    page.unroute_all(behavior="ignoreErrors")
    context.close()
    origin = "/".join(url.split("/")[:3])
    assert all(one.startswith((origin, "data:")) for one in asked), asked
    assert not (quiet and told), told


def press_until(page, key, selector):
    """By keyboard alone; that what has the focus shows it."""
    for _ in range(150):
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            outline = page.evaluate(
                "(() => { const it = document.activeElement, beside = it.nextElementSibling;"
                " return [it, beside].filter(Boolean).some((one) => getComputedStyle(one).outlineStyle !== 'none'); })()"
            )
            assert outline, f"{selector} does not show that it has the focus"
            return
        page.keyboard.press(key)
    raise AssertionError(f"{selector} cannot be reached by {key}")


def assert_whole(page):
    """Nothing is clipped."""
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0, f"{wide} pixels too wide for {page.viewport_size}"
    clipped = page.evaluate(CLIPPED)
    assert not clipped, clipped


def assert_sound(page):
    """Nothing is clipped, and axe finds nothing."""
    assert_whole(page)
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


class Blobs:
    """`with Blobs() as blobs`: a host that gives what `answers` has for a path, as (status, body), and 404 otherwise."""

    def __enter__(self):
        self.answers = {}
        blobs = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                status, body = blobs.answers.get(self.path.split("?")[0], (404, b""))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def settings(self):
        """Those of a daemon that may fetch from here."""
        return {"FETCH_ALLOWED_HOSTS": f"127.0.0.1:{self.port}", "FETCH_ATTEMPTS": "2"}
