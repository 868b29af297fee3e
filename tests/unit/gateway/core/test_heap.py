"""What the C library's heap is told, and that the environment goes first."""

from hevlayer.gateway.heap import GROWN_BY_BYTES, KEPT_BYTES, MAPPED_BYTES_MIN, keep_heap


class Heap:
    """Notes what it is told; answers as `mallopt` does."""

    def __init__(self, answer: int) -> None:
        self.told: list[tuple[int, int]] = []
        self._answer = answer

    def __call__(self, option: int, value: int) -> int:
        self.told.append((option, value))
        return self._answer


def test_the_heap_keeps_its_free_end():
    heap = Heap(1)
    assert keep_heap({}, heap)
    assert heap.told == [(-1, KEPT_BYTES), (-2, GROWN_BY_BYTES), (-3, MAPPED_BYTES_MIN)]


def test_options_of_the_environment_stand():
    heap = Heap(1)
    assert keep_heap({"MALLOC_TRIM_THRESHOLD_": "1", "MALLOC_TOP_PAD_": "2", "MALLOC_MMAP_THRESHOLD_": "3"}, heap)
    assert heap.told == []


def test_every_option_is_tried_though_one_is_refused():
    heap = Heap(0)
    assert not keep_heap({}, heap)
    assert len(heap.told) == 3
