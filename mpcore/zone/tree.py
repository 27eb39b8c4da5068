"""A persistent sorted map from octets to octets: a B+ tree whose nodes are never changed.

An update copies the nodes on the way to what it changes and shares all others with the old tree, so old trees stay
valid and cost nothing to keep.  All leaves are at the same depth.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias

__all__ = ("Tree", "TreeBuilder")

_FAN: Final = 128  # most entries of a node
_FILL: Final = 96  # entries of a new leaf
_THIN: Final = 32  # a node with fewer is joined with its neighbour when it was touched


class _Leaf:
    __slots__ = ("keys", "values")

    def __init__(self, keys: tuple[bytes, ...], values: tuple[bytes, ...]) -> None:
        self.keys, self.values = keys, values


class _Inner:
    """*splits* has one entry less than *children*: ``splits[i]`` is not above any key of ``children[i + 1]``."""

    __slots__ = ("children", "splits")

    def __init__(self, splits: tuple[bytes, ...], children: tuple[_Node, ...]) -> None:
        self.splits, self.children = splits, children


_Node: TypeAlias = _Leaf | _Inner
_Change: TypeAlias = tuple[bytes, bytes | None]
_Bisect: TypeAlias = Callable[[Sequence[bytes], bytes], int]


class Tree:
    """Immutable map with keys in octet order."""

    __slots__ = ("_root",)

    def __init__(self, root: _Node | None = None) -> None:
        self._root: _Node = root if root is not None else _Leaf((), ())

    @classmethod
    def build(cls, items: Sequence[tuple[bytes, bytes]]) -> Tree:
        """A tree of *items*, whose keys must be strictly ascending."""
        return cls.of_columns([key for key, _ in items], [value for _, value in items])

    @classmethod
    def of_columns(cls, keys: Sequence[bytes], values: Sequence[bytes]) -> Tree:
        """A tree of *keys*, which must be strictly ascending, and their *values*."""
        return cls(
            _raise(
                [
                    (keys[start], _Leaf(tuple(keys[start:end]), tuple(values[start:end])))
                    for start, end in _spans(len(keys), _FAN * 3 // 4)
                ]
            )
        )

    def get(self, key: bytes) -> bytes | None:
        """The value at *key*, or ``None``."""
        node = self._root
        while type(node) is _Inner:
            node = node.children[bisect_right(node.splits, key)]
        assert type(node) is _Leaf
        keys = node.keys
        index = bisect_left(keys, key)
        if index < len(keys) and keys[index] == key:
            return node.values[index]
        return None

    def floor(self, key: bytes, *, strict: bool = False) -> tuple[bytes, bytes] | None:
        """The entry with the largest key not above *key* (below it, if *strict*)."""
        return _floor(self._root, key, bisect_left if strict else bisect_right)

    def ceiling(self, key: bytes, *, strict: bool = False) -> tuple[bytes, bytes] | None:
        """The entry with the smallest key not below *key* (above it, if *strict*)."""
        return _ceiling(self._root, key, bisect_right if strict else bisect_left)

    def last(self) -> tuple[bytes, bytes] | None:
        """The entry with the largest key."""
        node = self._root
        while type(node) is _Inner:
            node = node.children[-1]
        assert type(node) is _Leaf
        return (node.keys[-1], node.values[-1]) if node.keys else None

    def items(self, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Entries in ascending order from the first key not below *start*."""
        return _items(self._root, start)

    def keys(self) -> Iterator[bytes]:
        """Keys in ascending order."""
        for leaf in _leaves(self._root):
            yield from leaf.keys

    def leaves(self) -> Iterator[tuple[tuple[bytes, ...], tuple[bytes, ...]]]:
        """Keys and values of each leaf, in ascending order; up to 128 of them."""
        for leaf in _leaves(self._root):
            yield leaf.keys, leaf.values

    def parts(self) -> list[object]:
        """What the tree consists of, in pieces of up to 128 entries, for whoever wants to free it piece by piece."""
        return list(_leaves(self._root))

    def __len__(self) -> int:
        return sum(len(leaf.keys) for leaf in _leaves(self._root))

    def apply(self, changes: Iterable[_Change]) -> Tree:
        """A tree with *changes*: (key, new value, or ``None`` to remove the key).

        :param changes: in any order, each key at most once; removing an absent key is no error.
        """
        ordered = sorted(changes)
        if not ordered:
            return self
        return Tree(_raise(_apply(self._root, b"", ordered)))

    def difference(self, other: Tree) -> Iterator[tuple[bytes, bytes | None, bytes | None]]:
        """What changes from this tree to *other*: (key, old value, new value), ascending.

        Nodes that the two trees share are skipped without being read, so the cost is that of the changes between the
        two, whatever the trees hold.
        """
        mine, theirs = _unshared(self._root, other._root)
        old, new = _entries(mine), _entries(theirs)
        left, right = next(old, None), next(new, None)
        while left is not None or right is not None:
            if right is None or (left is not None and left[0] < right[0]):
                assert left is not None
                yield left[0], left[1], None
                left = next(old, None)
            elif left is None or right[0] < left[0]:
                yield right[0], None, right[1]
                right = next(new, None)
            else:
                if left[1] != right[1]:
                    yield left[0], left[1], right[1]
                left, right = next(old, None), next(new, None)

    def is_near(self, other: Tree, leaves: int) -> bool:
        """Whether :meth:`difference` reads at most *leaves* leaves (of up to 128 entries) of each of the two trees."""
        return max(map(len, _unshared(self._root, other._root, leaves))) <= leaves


class TreeBuilder:
    """Makes a tree of entries that come in ascending order, leaf by leaf: no large list is ever made of them."""

    def __init__(self) -> None:
        self._keys: list[bytes] = []
        self._values: list[bytes] = []
        self._firsts: list[bytes] = []
        self._leaves: list[_Leaf] = []
        self._last: bytes | None = None

    def append(self, key: bytes, value: bytes) -> bool:
        """Add an entry; ``False``: its key is not above all others, and it was not added."""
        if self._last is not None and key <= self._last:
            return False
        self._last = key
        self._keys.append(key)
        self._values.append(value)
        if len(self._keys) >= _FILL:
            self._close()
        return True

    def _close(self) -> None:
        self._firsts.append(self._keys[0])
        self._leaves.append(_Leaf(tuple(self._keys), tuple(self._values)))
        self._keys, self._values = [], []

    def get(self, key: bytes) -> bytes | None:
        """The value at *key*, or ``None``."""
        if self._last is None or key > self._last:
            return None
        keys: Sequence[bytes] = self._keys
        values: Sequence[bytes] = self._values
        if not keys or key < keys[0]:
            place = bisect_right(self._firsts, key) - 1
            if place < 0:
                return None
            keys, values = self._leaves[place].keys, self._leaves[place].values
        index = bisect_left(keys, key)
        return values[index] if index < len(keys) and keys[index] == key else None

    def finish(self) -> Tree:
        """The tree; nothing may be appended afterwards."""
        if self._leaves and 0 < len(self._keys) < _THIN:
            # A thin leaf would be joined with its neighbour by the first change, which then shares less than it could.
            former = self._leaves.pop()
            self._firsts.pop()
            self._keys, self._values = [*former.keys, *self._keys], [*former.values, *self._values]
        if self._keys:
            self._close()
        return Tree(_raise(list(zip(self._firsts, self._leaves, strict=True))))


def _unshared(mine: _Node, theirs: _Node, limit: int | None = None) -> tuple[list[_Leaf], list[_Leaf]]:
    """The leaves, in order, of each of two trees that the other does not have.

    Two frontiers of equal height go down together.  A node of both trees is in both frontiers unless a node above it
    is, and then it has been dropped with that one.

    :param limit: stop when there are more than this; what is returned then are nodes anywhere in the trees.
    """
    left: list[Any] = [mine]
    right: list[Any] = [theirs]
    above, below = _height(mine), _height(theirs)
    while True:
        if above == below:
            shared = {id(node) for node in left} & {id(node) for node in right}
            if shared:
                left = [node for node in left if id(node) not in shared]
                right = [node for node in right if id(node) not in shared]
            if above == 0 or (limit is not None and max(len(left), len(right)) > limit):
                return left, right
        if above >= below:
            left = [child for node in left for child in node.children]
        if below >= above:
            right = [child for node in right for child in node.children]
        above, below = above - (above >= below), below - (below >= above)


def _height(node: _Node) -> int:
    height = 0
    while type(node) is _Inner:
        node = node.children[0]
        height += 1
    return height


def _entries(leaves: Iterable[_Leaf]) -> Iterator[tuple[bytes, bytes]]:
    for leaf in leaves:
        yield from zip(leaf.keys, leaf.values, strict=True)


def _spans(total: int, target: int) -> Iterator[tuple[int, int]]:
    """Cut *total* entries into runs of nearly equal length, none above *target* unless there is one."""
    pieces = -(-total // target)
    for piece in range(pieces):
        yield total * piece // pieces, total * (piece + 1) // pieces


def _raise(nodes: list[tuple[bytes, _Node]]) -> _Node | None:
    """The root above nodes of equal height, given with the lower bounds of their keys."""
    while len(nodes) > 1:
        nodes = _group(nodes)
    if not nodes:
        return None
    root = nodes[0][1]
    while type(root) is _Inner and len(root.children) == 1:
        root = root.children[0]
    return root


def _group(nodes: list[tuple[bytes, _Node]]) -> list[tuple[bytes, _Node]]:
    target = _FAN if len(nodes) <= _FAN else _FAN * 3 // 4
    result: list[tuple[bytes, _Node]] = []
    for start, end in _spans(len(nodes), target):
        bounds, children = zip(*nodes[start:end], strict=True)
        result.append((bounds[0], _Inner(bounds[1:], children)))
    return result


def _size(node: _Node) -> int:
    return len(node.keys) if type(node) is _Leaf else len(node.children)  # type: ignore[union-attr]


def _apply(node: _Node, bound: bytes, changes: list[_Change]) -> list[tuple[bytes, _Node]]:
    """Nodes of the same height that replace *node*, each with a lower bound of its keys."""
    if type(node) is _Leaf:
        return _apply_leaf(node, bound, changes)
    assert type(node) is _Inner
    result: list[tuple[bytes, _Node]] = []
    position = 0
    touched = False
    for index, child in enumerate(node.children):
        lower = node.splits[index - 1] if index else bound
        if index < len(node.splits):
            end = bisect_left(changes, (node.splits[index],), position)
        else:
            end = len(changes)
        if end == position:
            pieces = [(lower, child)]
        else:
            pieces = _apply(child, lower, changes[position:end])
        for piece in pieces:
            changed = end != position
            if result and (changed or touched) and min(_size(piece[1]), _size(result[-1][1])) < _THIN:
                joined = _join(result[-1], piece)
                if joined is not None:
                    result[-1] = joined
                    touched = True
                    continue
            result.append(piece)
            touched = changed
        position = end
    return _group(result) if result else []


def _join(left: tuple[bytes, _Node], right: tuple[bytes, _Node]) -> tuple[bytes, _Node] | None:
    a, b = left[1], right[1]
    if _size(a) + _size(b) > _FAN:
        return None
    if type(a) is _Leaf and type(b) is _Leaf:
        return left[0], _Leaf(a.keys + b.keys, a.values + b.values)
    assert type(a) is _Inner
    assert type(b) is _Inner
    return left[0], _Inner((*a.splits, right[0], *b.splits), a.children + b.children)


def _apply_leaf(leaf: _Leaf, bound: bytes, changes: list[_Change]) -> list[tuple[bytes, _Node]]:
    keys, values = list(leaf.keys), list(leaf.values)
    if len(changes) <= 8:
        for key, value in changes:
            index = bisect_left(keys, key)
            present = index < len(keys) and keys[index] == key
            if value is None:
                if present:
                    del keys[index], values[index]
            elif present:
                values[index] = value
            else:
                keys.insert(index, key)
                values.insert(index, value)
    else:
        merged = dict(zip(keys, values, strict=True))
        for key, value in changes:
            if value is None:
                merged.pop(key, None)
            else:
                merged[key] = value
        keys = sorted(merged)
        values = [merged[key] for key in keys]
    if len(keys) <= _FAN:
        return [(bound, _Leaf(tuple(keys), tuple(values)))] if keys else []
    result: list[tuple[bytes, _Node]] = []
    for start, end in _spans(len(keys), _FAN * 3 // 4):
        lower = keys[start] if start else bound
        result.append((lower, _Leaf(tuple(keys[start:end]), tuple(values[start:end]))))
    return result


def _floor(node: _Node, key: bytes, bisect: _Bisect) -> tuple[bytes, bytes] | None:
    if type(node) is _Leaf:
        index = bisect(node.keys, key) - 1
        return (node.keys[index], node.values[index]) if index >= 0 else None
    assert type(node) is _Inner
    for index in range(bisect_right(node.splits, key), -1, -1):
        found = _floor(node.children[index], key, bisect)
        if found is not None:
            return found
    return None


def _ceiling(node: _Node, key: bytes, bisect: _Bisect) -> tuple[bytes, bytes] | None:
    if type(node) is _Leaf:
        index = bisect(node.keys, key)
        return (node.keys[index], node.values[index]) if index < len(node.keys) else None
    assert type(node) is _Inner
    for index in range(bisect_right(node.splits, key), len(node.children)):
        found = _ceiling(node.children[index], key, bisect)
        if found is not None:
            return found
    return None


def _leaves(node: _Node) -> Iterator[_Leaf]:
    if type(node) is _Leaf:
        yield node
    elif type(node) is _Inner:
        for child in node.children:
            yield from _leaves(child)


def _items(node: _Node, start: bytes) -> Iterator[tuple[bytes, bytes]]:
    if type(node) is _Leaf:
        first = bisect_left(node.keys, start) if start else 0
        yield from zip(node.keys[first:], node.values[first:], strict=True)
    elif type(node) is _Inner:
        first = bisect_right(node.splits, start) if start else 0
        for index in range(first, len(node.children)):
            yield from _items(node.children[index], start if index == first else b"")
