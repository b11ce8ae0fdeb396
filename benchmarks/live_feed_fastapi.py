"""The peer of benchmarks/live_feed.py: FastAPI's documented connection manager sends each event to each client."""

import asyncio
import time

from fastapi import FastAPI, WebSocket, WebSocketDisconnect

app = FastAPI()
clients: list[WebSocket] = []
running: set[asyncio.Task[None]] = set()


@app.websocket("/feed")
async def feed(socket: WebSocket) -> None:
    await socket.accept()
    clients.append(socket)
    try:
        while True:
            await socket.receive_text()
    except WebSocketDisconnect:
        clients.remove(socket)


@app.get("/start")
async def start(events: int, rate: float, size: int) -> str:
    task = asyncio.create_task(pump(events, rate, size))
    running.add(task)
    task.add_done_callback(running.discard)
    return "started"


async def pump(events: int, rate: float, size: int) -> None:
    began = time.monotonic()
    for number in range(events):
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        text = f'{{"type":"job_update","location":"{int(due * 1e9):020d}'
        text = text.ljust(size - 2, "x") + '"}'
        for socket in list(clients):
            await socket.send_text(text)
