"""Bare web floors: a FastAPI endpoint that does nothing, inserts one row per request, or puts one message on Redis.

    python -m bench.floors.web nothing PORT
    python -m bench.floors.web insert PORT postgresql://…
    python -m bench.floors.web enqueue PORT redis://…

None of them looks at the signature.
"""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import dramatiq
import uvicorn
from dramatiq.brokers.redis import RedisBroker
from fastapi import FastAPI, Request, Response

PATH = "/hook"


def do_nothing() -> FastAPI:
    """Reads the body and answers."""
    app = FastAPI()

    @app.post(PATH)
    async def hook(request: Request) -> Response:
        await request.body()
        return Response()

    return app


def insert(database_url: str) -> FastAPI:
    """Commits one row per request."""

    @asynccontextmanager
    async def pool(app: FastAPI) -> AsyncIterator[None]:
        async with asyncpg.create_pool(database_url, min_size=8, max_size=8) as app.state.pool:
            await app.state.pool.execute(
                "create table if not exists floor (id bigserial primary key, at float8, body bytea)"
            )
            yield

    app = FastAPI(lifespan=pool)

    @app.post(PATH)
    async def hook(request: Request) -> Response:
        body = await request.body()
        await app.state.pool.execute("insert into floor (at, body) values ($1, $2)", time.time(), body)
        return Response()

    return app


def enqueue(redis_url: str) -> FastAPI:
    """Puts one message on Redis per request, for `bench.floors.script`."""
    broker = RedisBroker(url=redis_url)  # type: ignore[no-untyped-call]  # dramatiq's signature is not annotated
    app = FastAPI()

    @app.post(PATH)
    async def hook(request: Request) -> Response:
        order = await request.json()
        broker.enqueue(dramatiq.Message("default", "on_order", (order,), {}, {}))
        return Response()

    broker.declare_queue("default")
    return app


def main() -> None:
    """Serve the floor named by the arguments."""
    kind, port, *more = sys.argv[1:]
    app = {"nothing": do_nothing, "insert": insert, "enqueue": enqueue}[kind](*more)
    uvicorn.run(
        app, host="127.0.0.1", port=int(port), loop="uvloop", http="httptools", log_level="warning", access_log=False
    )


if __name__ == "__main__":
    main()
