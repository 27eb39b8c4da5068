"""A persistent sorted map from octets to octets: a B+ tree whose nodes are never changed.

An update copies the nodes on the way to what it changes and shares all others with the old tree, so old trees stay
valid and cost nothing to keep.  All leaves are at the same depth.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeAlias

__all__ = ("Tree",)

_FAN: Final = 128  # most entries of a node
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
        leaves: list[tuple[bytes, _Node]] = []
        for start, end in _spans(len(items), _FAN * 3 // 4):
            keys, values = zip(*items[start:end], strict=True)
            leaves.append((keys[0], _Leaf(keys, values)))
        return cls(_raise(leaves))

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

        Leaves that the two trees share are skipped without being read.
        """
        mine = {id(leaf): leaf for leaf in _leaves(self._root)}
        theirs = {id(leaf): leaf for leaf in _leaves(other._root)}
        old = {
            key: value
            for identity, leaf in mine.items()
            if identity not in theirs
            for key, value in zip(leaf.keys, leaf.values, strict=True)
        }
        new = {
            key: value
            for identity, leaf in theirs.items()
            if identity not in mine
            for key, value in zip(leaf.keys, leaf.values, strict=True)
        }
        for key in sorted(old.keys() | new.keys()):
            before, after = old.get(key), new.get(key)
            if before != after:
                yield key, before, after


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
