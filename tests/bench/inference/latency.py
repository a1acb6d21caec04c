"""What the running service gains by slots and by cached prefixes, over gRPC.

    python latency.py WORKLOAD.npz MODEL_DIRECTORY [--slots 8] [--requests 24] [--prefix 1000] [--pairs 5]

Prints one JSON object: seconds for the same requests one after another and with as many at once as there are slots;
seconds to the first token (`Usage.first_token_seconds`) of prompts with a prefix never seen before, and of prompts
with the same prefix and another end, a pair at a time with nothing else running.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time

from prompts import prefixed
from streaming import parser_of, service
from workload import Request, Workload

from tunix_rt.models.tokenizer import Tokenizer

# The first dispatch is a full one: a first token is known when all of its steps are done.
_WANTED = 16


async def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--requests", type=int, default=24)
    parser.add_argument("--prefix", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=5)
    given = parser.parse_args()
    requests = Workload.load(given.workload).requests()[: given.requests]
    tokenizer = Tokenizer.from_directory(given.model)
    # A pair of its own to warm up with: what is compiled or cached at first use is then there.
    pairs = [prefixed(tokenizer, given.prefix, 2, seed=number) for number in range(given.pairs + 1)]
    limit = given.context - _WANTED
    times: dict[str, list[float]] = {"cold": [], "cached": []}
    async with service(given) as client:
        for pair in pairs:
            for name, prompt in zip(times, pair, strict=True):
                times[name].append((await client.stream(Request(prompt[:limit], _WANTED))).first_token)
        began = time.perf_counter()
        alone = await client.all(requests, at_once=1)
        middle = time.perf_counter()
        together = await client.all(requests, at_once=given.slots)
        ended = time.perf_counter()
    found = {
        "tokens": sum(request.wanted for request in requests),
        "one_after_another": middle - began,
        "at_once": ended - middle,
        "same_answers": [answer.tokens for answer in alone] == [answer.tokens for answer in together],
        **{f"first_token_{name}": statistics.median(values[1:]) for name, values in times.items()},
        "first_tokens": times,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main())
