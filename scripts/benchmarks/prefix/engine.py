"""An engine in virtual time, step by step, with a prefix cache in blocks that evicts as vLLM's does."""

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from scripts.benchmarks.prefix.workload import BLOCK_TOKENS, Turn

SLOTS: Final = 32
BUDGET_TOKENS: Final = 2048  # of one step
FIXED_S: Final = 0.012  # of a step
EACH_S: Final = 0.0004  # for each sequence that decodes
TOKEN_S: Final = 1.0 / 6000.0  # for each token of a prompt
OVERHEAD_S: Final = 0.005

Ended = Callable[[], None]


class BlockCache:
    """vLLM's block pool: blocks are taken from the front of a queue of free ones. Those that hold nothing
    stand first, then the others in the order in which they were freed, a request's last before its first."""

    def __init__(self, blocks: int) -> None:
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(blocks))
        self._hash: list[int | None] = [None] * blocks
        self._users = [0] * blocks
        self._found: dict[int, dict[int, None]] = {}  # hash -> blocks that hold it

    @property
    def free(self) -> int:
        """Blocks that can be taken."""
        return len(self._free)

    def lookup(self, hashes: Sequence[int], tokens: int) -> list[int]:
        """The blocks that hold the longest known beginning of a prompt, whose last token is always read."""
        found = []
        for one in hashes[: (tokens - 1) // BLOCK_TOKENS]:
            blocks = self._found.get(one)
            if not blocks:
                break
            found.append(next(iter(blocks)))
        return found

    def hold(self, blocks: Sequence[int]) -> None:
        """Use blocks that are known."""
        for block in blocks:
            if not self._users[block]:
                del self._free[block]
            self._users[block] += 1

    def idle(self, blocks: Sequence[int]) -> int:
        """How many of these nobody uses: to hold them takes them from the free ones."""
        return sum(not self._users[block] for block in blocks)

    def take(self, count: int) -> list[int]:
        """New blocks; what they held is forgotten."""
        taken = []
        for _ in range(count):
            block, _ = self._free.popitem(last=False)
            old, self._hash[block] = self._hash[block], None
            if old is not None:
                holders = self._found[old]
                del holders[block]
                if not holders:
                    del self._found[old]
            self._users[block] = 1
            taken.append(block)
        return taken

    def fill(self, block: int, one: int) -> None:
        """A block is full."""
        self._hash[block] = one
        self._found.setdefault(one, {})[block] = None

    def release(self, blocks: Sequence[int]) -> None:
        """A request has ended."""
        for block in reversed(blocks):
            self._users[block] -= 1
            if not self._users[block]:
                self._free[block] = None
                if self._hash[block] is None:
                    self._free.move_to_end(block, last=False)


@dataclass(slots=True, eq=False)
class _Running:
    turn: Turn
    ended: Ended
    computed: int  # tokens
    filled: int  # blocks
    blocks: list[int]
    produced: int = 0

    @property
    def reads(self) -> int:
        """Prompt tokens that are left to be read."""
        return max(self.turn.prompt_tokens - self.computed, 0)


@dataclass(slots=True)
class Engine:
    """One replica. `step` is called whenever the one before is over."""

    index: int
    cache: BlockCache
    waiting: deque[tuple[Turn, Ended]] = field(default_factory=deque)
    running: list[_Running] = field(default_factory=list)
    busy_s: float = 0.0
    served: int = 0

    @property
    def there(self) -> int:
        """Requests here."""
        return len(self.waiting) + len(self.running)

    def step(self, now_s: float) -> tuple[float, list[Ended]]:
        """Run one step that begins now: its end, and what is to be called then."""
        decoding = [one for one in self.running if not one.reads]
        budget, chunks = BUDGET_TOKENS - len(decoding), []
        for one in self.running:
            if one.reads and budget > 0:
                chunks.append((one, min(one.reads, budget)))
                budget -= chunks[-1][1]
        while budget > 0 and self.waiting and len(self.running) < SLOTS:
            admitted = self._admit(*self.waiting[0])
            if admitted is None:
                break
            self.running.append(admitted)
            self.waiting.popleft()
            chunks.append((admitted, min(admitted.reads, budget)))
            budget -= chunks[-1][1]
        for one, chunk in chunks:
            one.computed += chunk
        for one in decoding:
            one.computed += 1
        seconds = FIXED_S + EACH_S * len(decoding) + TOKEN_S * sum(chunk for _, chunk in chunks)
        end_s = now_s + seconds
        for one in self.running:
            if one.computed // BLOCK_TOKENS > one.filled:
                self._fill(one)
            if one.computed >= one.turn.prompt_tokens:
                one.produced += 1
                if one.produced == 1:
                    one.turn.first_token_s = end_s + OVERHEAD_S
        over = [one for one in self.running if one.produced >= one.turn.output_tokens]
        for one in over:
            self.running.remove(one)
            self.cache.release(one.blocks)
        self.busy_s += seconds
        self.served += len(over)
        return end_s, [one.ended for one in over]

    def _admit(self, turn: Turn, ended: Ended) -> _Running | None:
        """Start a request where all that it will need is free."""
        known = self.cache.lookup(turn.blocks, turn.prompt_tokens)
        needed = -(-(turn.prompt_tokens + turn.output_tokens) // BLOCK_TOKENS) - len(known)
        if needed + self.cache.idle(known) > self.cache.free:
            return None
        self.cache.hold(known)
        turn.cached_tokens = len(known) * BLOCK_TOKENS
        return _Running(turn, ended, turn.cached_tokens, len(known), [*known, *self.cache.take(needed)])

    def _fill(self, one: _Running) -> None:
        for index in range(one.filled, min(one.computed // BLOCK_TOKENS, len(one.turn.blocks))):
            self.cache.fill(one.blocks[index], one.turn.blocks[index])
            one.filled = index + 1
