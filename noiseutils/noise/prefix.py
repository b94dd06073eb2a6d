"""What ANL's two rounds have in common: everything before the first site, computed once.

Round two calls the same functions again. One that is called with the very tensors of round one, unchanged
since, would give what it gave then, and that is handed out: so the next call may have the very tensors of
round one, too. The chain ends by itself where the rounds may differ: BatchNorm in training mode moves its
statistics in each, dropout draws in each, and what they return is new. Forward hooks on modules could do
less: they cannot skip a forward pass, nor see what it computes between its modules.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode

# functions of their arguments alone: no draw, no memory, nothing written
PURE: set[Any] = {
    *(F.conv1d, F.conv2d, F.conv3d, F.linear, torch.flatten, Tensor.flatten, Tensor.permute),
    *(F.relu, torch.relu, Tensor.relu, F.leaky_relu, F.elu, F.gelu, F.silu, F.hardtanh, F.relu6),
    *(torch.sigmoid, Tensor.sigmoid, torch.tanh, Tensor.tanh, F.pad, F.interpolate),
    *(F.max_pool1d, F.max_pool2d, F.avg_pool1d, F.avg_pool2d, F.adaptive_avg_pool2d, F.local_response_norm),
    *(F.layer_norm, F.group_norm, torch.add, torch.sub, torch.mul, torch.div),
    *(Tensor.add, Tensor.sub, Tensor.mul, Tensor.div, Tensor.to, Tensor.float, Tensor.contiguous),
}
# after these a tensor may change, or its gradient, and its version does not tell
REACHING_AROUND: set[Any] = {
    *(Tensor.register_hook, Tensor.retain_grad, Tensor.grad_fn.__get__),  # pyright: ignore
    *(Tensor.data.__get__, Tensor.data.__set__, Tensor.numpy, Tensor.data_ptr),  # pyright: ignore
    *(Tensor.untyped_storage, Tensor.set_, Tensor.detach_, Tensor.requires_grad_),
}


class Prefix(TorchFunctionMode):
    """What round one's functions gave before its first site; round two is handed each result at most once."""

    def __init__(self) -> None:
        super().__init__()
        self.results: dict[Hashable, list[tuple[Tensor, int, tuple[Any, ...]]]] = {}
        self.recording = True
        self.over = False

    @contextmanager
    def round(self, *, recording: bool) -> Iterator[None]:
        """Inside the block functions are recorded, or handed out, until `end`."""
        self.recording, self.over = recording, False
        self.__enter__()
        try:
            yield
        finally:
            if not self.over or _get_current_function_mode() is self:
                self.__exit__(None, None, None)
            self.over = True

    def end(self) -> None:
        """The first site is reached: from here on the rounds differ."""
        self.over = True
        if not self.recording:
            self.results.clear()
        if _get_current_function_mode() is self:  # not so inside a mode that the network itself has entered
            self.__exit__(None, None, None)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if self.over:
            return func(*args, **kwargs)
        if func in REACHING_AROUND:
            self.results.clear()
            self.over = True
            return func(*args, **kwargs)
        key = _key(func, args, kwargs) if func in PURE else None
        if key is None:
            return func(*args, **kwargs)
        if not self.recording and (found := self.results.get(key)):
            result, version, _ = found.pop(0)
            if result._version == version:
                return result
        result = func(*args, **kwargs)
        if self.recording and type(result) is Tensor and not result.is_inference():
            # the arguments are kept, or another tensor could come to lie at their address
            self.results.setdefault(key, []).append((result, result._version, (*args, *kwargs.values())))
        return result


def _key(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable | None:
    """Equal for two calls that give the same; None for a call that cannot be told."""
    found: list[Hashable] = [func, *kwargs, torch.is_grad_enabled()]
    found += [torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")]
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            if type(value) not in (Tensor, nn.Parameter) or value.is_inference():
                return None
            found.append((id(value), value._version, value.requires_grad))
        else:
            found.append((type(value), tuple(value) if isinstance(value, list) else value))
    try:
        hash(key := tuple(found))
    except TypeError:
        return None
    return key


def sharing(model: nn.Module) -> Prefix | None:
    """A prefix for the two rounds of a step; None where what would be shared cannot be followed.

    A compiled network's functions are not called one by one, and without a graph round two has no use for the
    tensors of round one, which have theirs.
    """
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return None
    compiled = any(
        module._compiled_call_impl is not None or hasattr(module, "_orig_mod") for module in model.modules()
    )
    return None if compiled else Prefix()
