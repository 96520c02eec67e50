"""What the page shows first: is it well, since when not and why; what failed; rates and times; tables."""

import re
import time

from playwright.sync_api import expect

from browser_tools import SCHEME, Blobs, assert_sound, press_until, tab
from daemon import Daemon, Redis

BLACK_AND_WHITE = ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]
LONG = "catalogue:" + "eu-west-1/" * 12 + "x" * 120


def from_url(key, url, version=None):
    event = {"key": "SET", "value": {"data": {"key": key, "url": url}}}
    return event if version is None else {"version": version, **event}


def notify(daemon, source, name):
    """An object that was written, as S3 tells of it."""
    stored = {"bucket": {"name": "bucket"}, "object": {"key": name, "size": 1, "eTag": "e", "sequencer": f"{time.time_ns():x}"}}
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
    record = {"eventSource": "aws:s3", "eventTime": now, "eventName": "ObjectCreated:Put", "s3": stored}
    return daemon.post({"Records": [record]}, path=f"/sources/{source}")


def it_is_told_what_is_not_well_since_when_and_why(browser):
    with Redis() as redis, Daemon(CACHE_BACKEND="redis", REDIS_PORT=str(redis.port), REDIS_RETRY_MS="200") as daemon:
        with tab(browser, daemon.url, quiet=False) as page:
            expect(page.locator("#verdict")).to_have_text("✓ All is well.")
            expect(page.locator("#parts li")).to_have_count(4)
            redis.process.kill()
            trouble = page.locator("#troubles li").first
            expect(trouble).to_contain_text("✗ Redis")
            expect(trouble).to_contain_text(str(redis.port))
            expect(trouble.locator(".when")).to_have_text(re.compile(r"^for \d+ s, from \d\d:\d\d:\d\d$"))
            expect(trouble.locator(".why")).not_to_be_empty()
            kept = page.locator("#troubles li", has_text="✗ Journal")
            expect(kept.locator(".when")).to_have_text(re.compile(r"^for \d+ s, from \d\d:\d\d:\d\d$"))
            expect(kept.locator(".why")).not_to_be_empty()
            expect(page.locator("#verdict")).to_contain_text("not well")
            expect(page.locator("#line [data-actor=Redis]")).to_contain_text("DOWN")
            assert_sound(page)


def a_failing_host_and_what_failed_are_told_filtered_and_repeated(browser):
    store = {"STORES_ARCHIVE_KIND": "http", "STORES_ARCHIVE_ENDPOINT": "http://127.0.0.1:9/"}
    with Blobs() as blobs, Daemon(**blobs.settings(), **store, SOURCES_PHOTOS_FORMAT="s3", SOURCES_PHOTOS_STORE="archive") as daemon:
        blobs.answers["/flaky"] = (503, b"")
        assert notify(daemon, "photos", "a.jpg") == 503
        assert daemon.post(from_url("versioned", f"{blobs.url}/flaky", 7)) == 503
        assert daemon.post(from_url("signed", f"{blobs.url}/flaky?sig=PLANTED", 7)) == 503
        assert daemon.post({"key": "SET", "value": {"data": {}}}) == 422
        with tab(browser, daemon.url) as page:
            for name, why in ((f"! Host 127.0.0.1:{blobs.port}", "503"), ("! Store archive", "refused")):
                trouble = page.locator("#troubles li", has_text=name)
                expect(trouble.locator(".why")).to_contain_text(why)
                expect(trouble.locator(".when")).to_have_text(re.compile(r"^for .+, from \d\d:\d\d:\d\d$"))
            rows = page.locator("#failures tr")
            expect(rows).to_have_count(4)
            expect(rows.locator("time").first).to_have_text(re.compile(r"^\d\d:\d\d:\d\d$"))
            page.locator("#failures-source").select_option("photos")
            expect(rows).to_have_count(1)
            expect(rows.first).to_contain_text("a.jpg")
            page.locator("#failures-source").select_option("/events")
            expect(page.locator("#failures-count")).to_have_text("3 of 4 failures")
            assert_sound(page)
            row = rows.filter(has_text="versioned")
            for text in (f"{blobs.url}/flaky", "/events", "blob-unavailable", "2"):
                expect(row).to_contain_text(text)
            assert "PLANTED" not in page.content()
            # Only what has a version, and is known as a whole, is offered again.
            expect(page.locator("#failures button")).to_have_count(1)
            signed = rows.filter(has_text="signed")
            signed.get_by_text("More").click()
            expect(signed).to_contain_text("The query of its URL is not kept")
            page.locator("#failures-problem").select_option("invalid-event")
            expect(rows).to_have_count(1)
            page.locator("#failures-problem").select_option("")
            page.locator("#failures-class").select_option("unavailable")
            expect(page.locator("#failures-count")).to_have_text("2 of 4 failures")
            page.locator("#failures-text").fill("VERSIONED")
            expect(rows).to_have_count(1)
            blobs.answers["/flaky"] = (200, b"seven")
            page.get_by_role("button", name="Repeat the store of versioned").click()
            expect(page.locator("#repeat-state")).to_have_text("versioned: stored")
            expect(page.locator("#verdict")).to_have_text("! One thing is not well.")
            expect(page.locator("#troubles li")).to_contain_text("! Store archive")


def long_counts(route):
    """The state of a daemon that has carried out that much."""
    answer = route.fetch()
    status = answer.json()
    for outcomes in status["events"].values():
        outcomes.update(ok=9_999_999, rejected=9_999_999, unavailable=123_456_789_000)
    route.fulfill(response=answer, json=status)


def long_names_break_and_nothing_is_clipped_when_much_is_wrong(browser):
    sources = {"SOURCES_MINIO_FORMAT": "s3", "STORES_ARCHIVE_KIND": "http", "STORES_ARCHIVE_ENDPOINT": "http://127.0.0.1:9/"}
    with Blobs() as blobs, Redis() as redis:
        settings = {**blobs.settings(), **sources, "CACHE_BACKEND": "redis", "REDIS_PORT": str(redis.port)}
        with Daemon(**settings, REDIS_RETRY_MS="200") as daemon:
            blobs.answers[f"/{LONG}"] = (503, b"")
            daemon.post(from_url(LONG, f"{blobs.url}/{LONG}", 1))
            daemon.post({"key": "SET", "id": "i" * 200, "value": {"data": {"key": LONG, "store": "archive", "object": f"b/{LONG}"}}})
            redis.process.kill()
            daemon.post({"key": "SET", "value": {"data": {"key": LONG, "value": "v"}}})
            with tab(browser, daemon.url) as page:
                page.route("**/status.json*", long_counts)
                expect(page.locator("#counts")).to_contain_text("9,999,999")
                expect(page.locator("#troubles li").first).to_contain_text("Redis")
                expect(page.locator("#failures tr")).to_have_count(3)
                page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
                # Not within a word as long as there is a better place.
                assert page.locator("#failures wbr").count() > 10
                assert_sound(page)


def charts_have_axes_and_tell_the_values_under_the_pointer_and_by_keyboard(browser):
    with Daemon() as daemon, tab(browser, daemon.url) as page:
        daemon.post({"key": "SET", "value": {"data": {"key": "k", "value": "v"}}})
        expect(page.locator("#chart-outcomes polyline").first).to_be_attached()
        for chart in page.locator("#charts figure").all():
            assert chart.locator("line.grid").count() >= 7
            texts = chart.locator("svg.chart text").all_text_contents()
            assert sum(bool(re.fullmatch(r"\d\d:\d\d", text)) for text in texts) == 4, texts
            assert len(texts) >= 6, texts
        # Of its limit, not of its own maximum.
        admission = page.locator("#chart-admission svg.chart text").all_text_contents()
        assert admission[:5] == ["0 %", "25 %", "50 %", "75 %", "100 %"], admission
        plot = page.locator("#chart-latency .plot")
        plot.scroll_into_view_if_needed()
        box = plot.bounding_box()
        page.mouse.move(box["x"] + box["width"] - 10, box["y"] + 60)
        expect(page.locator("#chart-latency .readout")).to_have_class(re.compile("pointed"))
        expect(page.locator("#chart-latency .readout")).to_have_text(re.compile(r"^\d\d:\d\d:\d\d: p50 .+, p99 .+$"))
        expect(page.locator("#chart-types .cursor")).to_be_attached()
        page.mouse.move(0, 0)
        expect(page.locator(".cursor")).to_have_count(0)
        plot.focus()
        page.keyboard.press("End")
        last = int(plot.get_attribute("aria-valuenow"))
        page.keyboard.press("Home")
        expect(plot).to_have_attribute("aria-valuenow", "0")
        assert last >= 0 and "p50" in plot.get_attribute("aria-valuetext")


def the_span_is_chosen_by_keyboard(browser):
    with Daemon() as daemon, tab(browser, daemon.url) as page:
        expect(page.locator("#state")).to_have_text("✓ ready")
        press_until(page, "Tab", "#span input")
        for span in ("1h", "1d"):
            with page.expect_request(f"**/status.json?span={span}"):
                page.keyboard.press("ArrowRight")
        expect(page.locator("#span input:checked")).to_have_value("1d")


def tables_of_sources_and_hosts_sort(browser):
    names = {f"SOURCES_{name}_FORMAT": "s3" for name in ("B", "A", "C")}
    with Blobs() as blobs, Daemon(**blobs.settings(), **names, STORES_FILES_KIND="http", STORES_FILES_ENDPOINT=blobs.url) as daemon:
        blobs.answers |= {"/a": (200, b"1"), "/b/n": (200, b"2")}
        assert [daemon.post(from_url(f"k{n}", f"{blobs.url}/a")) for n in range(3)] == [200] * 3
        assert daemon.post({"key": "SET", "value": {"data": {"key": "o", "store": "files", "object": "b/n"}}}) == 200
        with tab(browser, daemon.url) as page:
            expect(page.locator("#hosts tr")).to_have_count(2)
            for table, column, rows in (("sources", "Source", ["a (s3)", "b (s3)", "c (s3)"]), ("hosts", "Got", [f"127.0.0.1:{blobs.port}", "store/files"])):
                head = page.locator(f"#{table}-head").get_by_role("button", name=column)
                head.scroll_into_view_if_needed()
                expect(head).to_be_in_viewport()
                head.click()
                first = page.locator(f"#{table} th").all_text_contents()
                head.click()
                second = page.locator(f"#{table} th").all_text_contents()
                assert sorted([first, second]) == sorted([rows, rows[::-1]]), (first, second)
            expect(page.locator("#hosts-head th").nth(1)).to_have_attribute("aria-sort", re.compile("ending$"))
            order = [line.get_attribute("data-actor") for line in page.locator("#line li").all()]
            assert order == ["HTTP", "intake", "validation", "router", "writer", "Redis"], order
            for actor in [*order[1:5], "fetcher", "scanner"]:
                expect(page.locator(f".pipeline [data-actor={actor}]")).to_contain_text(re.compile(r"\d+ running.*\d+ waiting.*\d+ restarts?"))
            # Half and 99 of 100 beside each other.
            row = page.locator("#times tr", has_text="an answer to POST /events").locator("td")
            expect(row).to_have_text([re.compile(r"^[\d.]+\sm?s$")] * 2)
            assert_sound(page)


def to_a_screen_reader(page, selector, role):
    """What the browser itself tells: styles that lay a table out anew may take its roles away."""
    cdp = page.context.new_cdp_session(page)
    root = cdp.send("DOM.getDocument")["root"]["nodeId"]
    node = cdp.send("DOM.querySelector", {"nodeId": root, "selector": selector})["nodeId"]
    nodes = cdp.send("Accessibility.queryAXTree", {"nodeId": node, "role": role})["nodes"]
    return [node["name"]["value"] for node in nodes if not node["ignored"]]


def tables_and_charts_are_such_to_a_screen_reader(browser):
    with Blobs() as blobs, Daemon(**blobs.settings()) as other, Daemon(**blobs.settings(), HTTP_PEERS=other.url) as daemon:
        daemon.post(from_url("k", f"{blobs.url}/gone", 7))
        with tab(browser, daemon.url) as page:
            expect(page.locator("#replicas tr")).to_have_count(2)
            expect(page.locator("#chart-latency polyline").first).to_be_attached()
            heads = to_a_screen_reader(page, "#failures-table table", "columnheader")
            assert heads == ["Time", "What", "From", "Problem", "Attempts", "Repeat"], heads
            cells = to_a_screen_reader(page, "#failures-table table", "cell")
            # Where there is little room, a cell that says nothing is left out.
            assert len(cells) in (5, 6) and "blob-not-found" in cells[3], cells
            assert len(to_a_screen_reader(page, "#replicas-card table", "row")) == 3
            assert to_a_screen_reader(page, "#replicas-card table", "rowheader")[0].endswith("this one")
            assert to_a_screen_reader(page, "#charts", "slider")[2] == "Time to answer POST /events"
            assert len(to_a_screen_reader(page, "main", "heading")) >= 10


def it_is_readable_with_more_contrast_and_with_forced_colours(browser):
    with Blobs() as blobs, Daemon(**blobs.settings()) as daemon:
        blobs.answers["/flaky"] = (503, b"")
        daemon.post(from_url("k", f"{blobs.url}/flaky", 7))
        for path in ("/", "/docs"):
            with tab(browser, daemon.url + path, contrast="more") as page:
                expect(page.locator("#state")).not_to_contain_text("ing…")
                text, ground = (page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor"))
                assert [text, ground] == BLACK_AND_WHITE[:: -1 if SCHEME == "dark" else 1], (text, ground)
                assert_sound(page)
        with tab(browser, daemon.url, forced_colors="active") as page:
            expect(page.locator("#chart-outcomes polyline").first).to_be_attached()
            strokes = page.locator("#chart-outcomes .legend line").evaluate_all("all => all.map(one => [getComputedStyle(one).stroke, getComputedStyle(one).strokeDasharray])")
            assert len({stroke for stroke, _ in strokes}) == 1 and len({dashes for _, dashes in strokes}) == 3, strokes


ALONE = [
    it_is_told_what_is_not_well_since_when_and_why,
    a_failing_host_and_what_failed_are_told_filtered_and_repeated,
    long_names_break_and_nothing_is_clipped_when_much_is_wrong,
    charts_have_axes_and_tell_the_values_under_the_pointer_and_by_keyboard,
    the_span_is_chosen_by_keyboard,
    tables_of_sources_and_hosts_sort,
    tables_and_charts_are_such_to_a_screen_reader,
    it_is_readable_with_more_contrast_and_with_forced_colours,
]
