"""A JSON API of ready-made pages, for measuring readers of it: `python -m benchmarks.paged_api <port> <rows>`.

A thousand records a page, the next page in the Link header. The answers lie ready as bytes, so that the server costs
next to nothing.
"""

import json
import socketserver
import sys

PAGE = 1000


def record(number: int) -> dict[str, object]:
    """The ten columns of the other measurements, as JSON has them."""
    mixed = number * 2654435761 % 2**32
    return {
        "id": number,
        "customer_id": mixed % 100_000,
        "created_at": f"2026-01-{1 + mixed % 28:02d}T{mixed % 24:02d}:{mixed % 60:02d}:00",
        "updated_at": None if mixed % 10 < 3 else f"2026-02-{1 + mixed % 28:02d}T10:00:00",
        "amount": mixed % 1_000_000 / 100 + 0.001,
        "score": None if mixed % 10 == 0 else mixed / 7,
        "status": ("new", "paid", "sent", "done")[mixed % 4],
        "country": ("DE", "FR", "US", "NO", "PL", "IT")[mixed % 6],
        "item": f"item-{mixed % 5000}",
        "note": None if mixed % 10 < 3 else f"note {mixed % 1_000_000}",
    }


def answers(rows: int) -> list[bytes]:
    """Every page as the bytes that go over the wire."""
    pages = range(0, rows, PAGE)
    ready = []
    for number, start in enumerate(pages):
        body = json.dumps([record(n) for n in range(start, min(start + PAGE, rows))]).encode()
        link = f'Link: </?page={number + 1}>; rel="next"\r\n' if number + 1 < len(pages) else ""
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{link}\r\n"
        ready.append(head.encode() + body)
    return ready


def main() -> None:
    """Serve until killed; says `ready` when it listens."""
    port, rows = int(sys.argv[1]), int(sys.argv[2])
    ready = answers(rows)

    class Pages(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while line := self.rfile.readline():
                path = line.split()[1].decode()
                while self.rfile.readline().strip():
                    pass
                self.wfile.write(ready[int(path.partition("page=")[2] or 0)])

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    with Server(("127.0.0.1", port), Pages) as server:
        print("ready", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
