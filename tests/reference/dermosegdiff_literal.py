"""DermoSegDiff's network computed from the names of its authors' checkpoints, one function per part of the paper.

Written from the architecture's description (paper, Figs. 1 and 2, and the names and shapes of the weights): RB, L-Att,
LS-Att, EM, BM and DM are the paper's. Any floating-point type; the weights are a dictionary of tensors.
"""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]
HEADS = 4


def expected_shapes(
    width_x: int, width_g: int, mult_x: tuple[int, ...], mult_g: tuple[int, ...], dim_head: int = 32, image: int = 3
) -> dict[str, tuple[int, ...]]:
    """The shape of every weight of a checkpoint, by its name there."""
    return dict(_shapes(width_x, width_g, mult_x, mult_g, HEADS * dim_head, image))


def _shapes(
    width_x: int, width_g: int, mult_x: tuple[int, ...], mult_g: tuple[int, ...], hidden: int, image: int
) -> Iterator[tuple[str, tuple[int, ...]]]:
    xs, gs = [width_x, *(width_x * m for m in mult_x)], [width_g, *(width_g * m for m in mult_g)]
    last, time_x = len(mult_x) - 1, 4 * width_x
    for path, width in (("x", width_x), ("g", width_g)):
        yield from _conv(f"init_conv_{path}", width, {"x": 1, "g": image}[path], 1)
        yield from _linear(f"time_mlp_{path}.1", 4 * width, width)
        yield from _linear(f"time_mlp_{path}.3", 4 * width, 4 * width)
    for level in range(last + 1):
        x, g, name = xs[level], gs[level], f"encoder_blocks.{level}"
        for block, inside, outside, time in (
            ("rb_x1", x, x, time_x),
            ("rb_g1", g, g, 4 * width_g),
            ("rb_x2", x, x, time_x),
            ("rb_g2", x + g, g, 4 * width_g),
        ):
            yield from _residual(f"{name}.0.{block}.rb", inside, outside, time)
        yield from _conv(f"{name}.0.g_feedback", x, g, 1)
        yield from _linear_attention(f"{name}.0.att_x.att", x, hidden)
        yield from _linear_attention(f"{name}.0.att_g.att", x + g, hidden)
        for place, inside, outside in ((1, x + g, gs[level + 1]), (2, x, xs[level + 1])):
            if level == last:
                yield from _conv(f"{name}.{place}", outside, inside, 3)
            else:
                yield from _conv(f"{name}.{place}.1", outside, 4 * inside, 1)
    yield from _residual("bottleneck.rb_before.rb", xs[-1] + gs[-1], xs[-1], time_x)
    yield from _attention("bottleneck.ls_attn.s_attn", xs[-1], hidden)
    yield from _linear_attention("bottleneck.ls_attn.l_attn.att", xs[-1], hidden)
    yield from _residual("bottleneck.rb_after.rb", 2 * xs[-1], xs[-1], time_x)
    for place in range(last + 1):
        level = last - place
        wide, skip, name = xs[level + 1], xs[level] + gs[level], f"decoder_blocks.{place}"
        for block in ("rb_d1", "rb_d2"):
            yield from _residual(f"{name}.0.{block}.rb", wide + skip, wide, time_x)
        yield from _linear_attention(f"{name}.0.att_x.att", wide, hidden)
        yield from _conv(f"{name}.1" if place == last else f"{name}.1.1", xs[level], wide, 3)
    yield from _residual("final_rb.rb", 2 * width_x + width_g, width_x, time_x)
    yield from _conv("final_conv", 1, width_x, 1)


def _conv(name: str, outside: int, inside: int, side: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from ((f"{name}.weight", (outside, inside, side, side)), (f"{name}.bias", (outside,)))


def _linear(name: str, outside: int, inside: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from ((f"{name}.weight", (outside, inside)), (f"{name}.bias", (outside,)))


def _norm(name: str, channels: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from ((f"{name}.weight", (channels,)), (f"{name}.bias", (channels,)))


def _residual(name: str, inside: int, outside: int, time: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from _linear(f"{name}.mlp.1", 2 * outside, time)
    for block, first in (("block1", inside), ("block2", outside)):
        yield from _conv(f"{name}.{block}.proj", outside, first, 3)
        yield from _norm(f"{name}.{block}.norm", outside)
    if inside != outside:
        yield from _conv(f"{name}.res_conv", outside, inside, 1)


def _attention(name: str, channels: int, hidden: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from _norm(f"{name}.fn.norm", channels)
    yield f"{name}.fn.fn.to_qkv.weight", (3 * hidden, channels, 1, 1)
    yield from _conv(f"{name}.fn.fn.to_out", channels, hidden, 1)


def _linear_attention(name: str, channels: int, hidden: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from _norm(f"{name}.fn.norm", channels)
    yield f"{name}.fn.fn.to_qkv.weight", (3 * hidden, channels, 1, 1)
    yield from _conv(f"{name}.fn.fn.to_out.0", channels, hidden, 1)
    yield from _norm(f"{name}.fn.fn.to_out.1", channels)


def denoise(state: State, x: Tensor, g: Tensor, t: Tensor) -> Tensor:
    """Noisy mask [B, 1, H, W], image [B, 3, H, W] and timestep [B] -> the predicted noise [B, 1, H, W]."""
    levels = len({key.split(".")[1] for key in state if key.startswith("encoder_blocks.")})
    x, g = conv(state, "init_conv_x", x), conv(state, "init_conv_g", g)
    first_x, first_g = x, g
    t_x, t_g = time_embedding(state, "time_mlp_x", t), time_embedding(state, "time_mlp_g", t)
    skips = []
    for level in range(levels):
        name = f"encoder_blocks.{level}"
        x, g, h, b = em(state, f"{name}.0", x, g, t_x, t_g)
        skips.append((h, b))
        if level == levels - 1:
            g, x = conv(state, f"{name}.1", g, 1), conv(state, f"{name}.2", x, 1)
        else:
            g, x = (conv(state, f"{name}.{place}.1", folded(maps)) for place, maps in ((1, g), (2, x)))
    x = bm(state, "bottleneck", torch.cat([x, g], 1), t_x)
    for place in range(levels):
        h, b = skips[levels - 1 - place]
        name = f"decoder_blocks.{place}"
        x = rb(state, f"{name}.0.rb_d1.rb", torch.cat([x, b], 1), t_x, 8)
        x = rb(state, f"{name}.0.rb_d2.rb", torch.cat([x, h], 1), t_x, 8)
        x = l_att(state, f"{name}.0.att_x.att", x)
        if place == levels - 1:
            x = conv(state, f"{name}.1", x, 1)
        else:
            x = conv(state, f"{name}.1.1", x.repeat_interleave(2, 2).repeat_interleave(2, 3), 1)
    return conv(state, "final_conv", rb(state, "final_rb.rb", torch.cat([x, first_x, first_g], 1), t_x, 1))


def em(
    state: State, name: str, x: Tensor, g: Tensor, t_x: Tensor, t_g: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The encoder's module: x and g of the next level before the change of size, and its skips h and b."""
    x, g = rb(state, f"{name}.rb_x1.rb", x, t_x, 8), rb(state, f"{name}.rb_g1.rb", g, t_g, 8)
    h = torch.cat([x, g], 1)
    g = rb(state, f"{name}.rb_g2.rb", h, t_g, 8)
    x = rb(state, f"{name}.rb_x2.rb", conv(state, f"{name}.g_feedback", g) * x, t_x, 8)
    x = l_att(state, f"{name}.att_x.att", x)
    b = torch.cat([x, g], 1)
    return x, l_att(state, f"{name}.att_g.att", b), h, b


def bm(state: State, name: str, z: Tensor, t: Tensor) -> Tensor:
    """The bottleneck's module; its norms have 4 groups."""
    z = rb(state, f"{name}.rb_before.rb", z, t, 4)
    attended = s_att(state, f"{name}.ls_attn.s_attn", z) + l_att(state, f"{name}.ls_attn.l_attn.att", z)
    return rb(state, f"{name}.rb_after.rb", torch.cat([z, attended], 1), t, 4)


def rb(state: State, name: str, x: Tensor, t: Tensor, groups: int) -> Tensor:
    """A residual block whose 3x3 filters are standardised; the time scales and shifts the first half."""
    scale, shift = linear(state, f"{name}.mlp.1", t * torch.sigmoid(t))[:, :, None, None].chunk(2, 1)
    h = x
    for block in ("block1", "block2"):
        weight = state[f"{name}.{block}.proj.weight"]
        flat = weight.flatten(1)
        mean, variance = flat.mean(1), ((flat - flat.mean(1, keepdim=True)) ** 2).mean(1)
        # The epsilon in single precision; the code takes 1e-3 in any other type.
        standard = (weight - mean[:, None, None, None]) / (variance[:, None, None, None] + epsilon(weight)) ** 0.5
        h = F.conv2d(h, standard, state[f"{name}.{block}.proj.bias"], padding=1)
        h = norm(state, f"{name}.{block}.norm", h, groups)
        h = h * (scale + 1) + shift if block == "block1" else h
        h = h * torch.sigmoid(h)
    return h + (conv(state, f"{name}.res_conv", x) if f"{name}.res_conv.weight" in state else x)


def epsilon(weight: Tensor) -> float:
    """What is added to a filter's variance."""
    return 1e-5 if weight.dtype == torch.float32 else 1e-3


def l_att(state: State, name: str, x: Tensor) -> Tensor:
    """x + linear attention: softmax of queries over channels, of keys over pixels."""
    q, k, v = heads(state, name, x)
    q, k = torch.exp(q - q.amax(2, keepdim=True)), torch.exp(k - k.amax(3, keepdim=True))
    q, k = q / q.sum(2, keepdim=True) / math.sqrt(q.shape[2]), k / k.sum(3, keepdim=True)
    context = torch.einsum("bhdn,bhen->bhde", k, v)
    out = torch.einsum("bhde,bhdn->bhen", context, q).flatten(1, 2).unflatten(2, x.shape[2:])
    return x + norm(state, f"{name}.fn.fn.to_out.1", conv(state, f"{name}.fn.fn.to_out.0", out), 1)


def s_att(state: State, name: str, x: Tensor) -> Tensor:
    """x + attention of every pixel to every other."""
    q, k, v = heads(state, name, x)
    scores = torch.einsum("bhdi,bhdj->bhij", q / math.sqrt(q.shape[2]), k)
    out = torch.einsum("bhij,bhdj->bhid", scores.softmax(-1), v)
    return x + conv(state, f"{name}.fn.fn.to_out", out.movedim(3, 2).flatten(1, 2).unflatten(2, x.shape[2:]))


def heads(state: State, name: str, x: Tensor) -> list[Tensor]:
    """Queries, keys and values [B, heads, channels, pixels] of normalised maps."""
    qkv = F.conv2d(norm(state, f"{name}.fn.norm", x, 1), state[f"{name}.fn.fn.to_qkv.weight"])
    return [part.flatten(2).unflatten(1, (HEADS, -1)) for part in qkv.chunk(3, 1)]


def time_embedding(state: State, name: str, t: Tensor) -> Tensor:
    """Sines, then cosines, in single precision, and two linear layers with GELU between."""
    first = state[f"{name}.1.weight"]
    half = first.shape[1] // 2
    angles = t[:, None] * torch.exp(torch.arange(half) * (-math.log(10000) / (half - 1)))
    waves = torch.cat([angles.sin(), angles.cos()], 1).to(first.dtype)
    return linear(state, f"{name}.3", F.gelu(linear(state, f"{name}.1", waves)))


def folded(x: Tensor) -> Tensor:
    """2 x 2 pixels as channels [B, 4 C, H / 2, W / 2], those of one channel side by side, row by row."""
    parts = [x[:, :, row::2, column::2] for row in (0, 1) for column in (0, 1)]
    return torch.stack(parts, 2).flatten(1, 2)


def conv(state: State, name: str, x: Tensor, padding: int = 0) -> Tensor:
    """A convolution with bias."""
    return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=padding)


def linear(state: State, name: str, x: Tensor) -> Tensor:
    """A linear layer with bias."""
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def norm(state: State, name: str, x: Tensor, groups: int) -> Tensor:
    """Group norm."""
    parts = x.unflatten(1, (groups, -1)).flatten(2)
    centred = parts - parts.mean(2, keepdim=True)
    normal = (centred / ((centred**2).mean(2, keepdim=True) + 1e-5) ** 0.5).view_as(x)
    return normal * state[f"{name}.weight"][:, None, None] + state[f"{name}.bias"][:, None, None]
