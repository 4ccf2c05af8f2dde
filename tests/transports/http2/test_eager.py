from __future__ import annotations

import asyncio
import contextvars

import pytest

from pyserving.transports.http2.eager import begin

variable = contextvars.ContextVar("variable", default="outside")


async def ready(value):
    return value


async def wait_for(future):
    return await future


async def test_what_needs_no_waiting_has_its_result_at_once():
    assert begin(ready("now"), asyncio.get_running_loop()) == "now"
    assert len(asyncio.all_tasks()) == 1


async def test_what_fails_at_once_raises():
    async def fail():
        raise KeyError("now")

    with pytest.raises(KeyError, match="now"):
        begin(fail(), asyncio.get_running_loop())


async def test_what_waits_goes_on_as_a_task():
    loop = asyncio.get_running_loop()
    first, second = loop.create_future(), loop.create_future()

    async def wait():
        return await first, await second, await ready(3)

    task = begin(wait(), loop)
    first.set_result(1)
    await asyncio.sleep(0)
    second.set_result(2)
    assert await task == (1, 2, 3)


async def test_what_gives_way_once_goes_on_as_a_task():
    async def give_way():
        await asyncio.sleep(0)
        return "later"

    assert await begin(give_way(), asyncio.get_running_loop()) == "later"


async def test_an_error_of_what_it_waits_for_reaches_it():
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    async def recover():
        try:
            await future
        except KeyError:
            return "recovered"

    task = begin(recover(), loop)
    future.set_exception(KeyError())
    assert await task == "recovered"


@pytest.mark.parametrize("turns", [0, 1, 2])
async def test_cancellation_reaches_the_coroutine_and_what_it_waits_for(turns):
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    cleaned_up = []

    async def wait():
        try:
            await future
        finally:
            await asyncio.sleep(0)
            cleaned_up.append(True)

    task = begin(wait(), loop)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned_up
    assert future.cancelled()


async def test_a_coroutine_may_outlive_its_cancellation():
    loop = asyncio.get_running_loop()

    async def stubborn():
        try:
            await loop.create_future()
        except asyncio.CancelledError:
            return "stayed"

    task = begin(stubborn(), loop)
    task.cancel()
    assert await task == "stayed"


async def test_context_variables_are_the_coroutines_own_from_first_to_last_step():
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    async def wait():
        token = variable.set("inside")
        await future
        seen = variable.get()
        variable.reset(token)
        return seen

    task = begin(wait(), loop)
    assert variable.get() == "outside"
    future.set_result(None)
    assert await task == "inside"
    assert variable.get() == "outside"


async def test_time_limits_work_after_the_first_wait():
    async def wait():
        await asyncio.sleep(0)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 0.001)
        return "timed out"

    assert await begin(wait(), asyncio.get_running_loop()) == "timed out"
