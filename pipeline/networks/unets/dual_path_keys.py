"""Names of DermoSegDiff's weights in its authors' checkpoints for those of DualPathUNet, and the sizes that they imply.

The numbers of groups of the norms and of heads of attention cannot be read from weights; they are those of the authors'
settings (8 groups, 4 heads).
"""

from collections.abc import Iterable, Mapping

from pipeline.networks.unets.dual_path_unet import DualPathShape

Table = dict[str, str]  # our key -> the checkpoint's
Shapes = Mapping[str, tuple[int, ...]]  # by the checkpoint's keys

HEADS, GROUPS = 4, 8
RESIDUAL = {  # parts of a residual block
    "time.1": "mlp.1",
    "first": "block1.proj",
    "first_norm": "block1.norm",
    "second": "block2.proj",
    "second_norm": "block2.norm",
    "shortcut": "res_conv",
}
ATTENTION = {"norm": "fn.norm", "qkv": "fn.fn.to_qkv", "out": "fn.fn.to_out"}
ENCODER = {"x1": "rb_x1.rb", "x2": "rb_x2.rb", "g1": "rb_g1.rb", "g2": "rb_g2.rb"}
DECODER = {"first": "rb_d1.rb", "second": "rb_d2.rb"}


def table(keys: Iterable[str], levels: int) -> Table:
    """Return the name in a checkpoint of each key of a DualPathUNet of so many levels."""
    rules = _rules(levels)
    return {key: _renamed(key, rules) for key in keys}


def shape_of(shapes: Shapes) -> DualPathShape:
    """Return the sizes of the network that a checkpoint holds. Raises ValueError saying what it lacks."""
    width_x, mask_channels = _size(shapes, "init_conv_x")[:2]
    width_g, image_channels = _size(shapes, "init_conv_g")[:2]
    levels = len({key.split(".")[1] for key in shapes if key.startswith("encoder_blocks.")})
    steps = [("" if level == levels - 1 else ".1") for level in range(levels)]  # the last level keeps its size
    xs, gs = (
        [_size(shapes, f"encoder_blocks.{level}.{path}{step}")[0] for level, step in enumerate(steps)]
        for path in (2, 1)
    )
    inside = _size(shapes, "bottleneck.ls_attn.l_attn.att.fn.fn.to_qkv")[0]
    for number, unit in (*((x, width_x) for x in xs), *((g, width_g) for g in gs), (inside, 3 * HEADS)):
        if number < 1 or number % unit:
            raise ValueError(f"has a layer of {number} channels where a multiple of {unit} is needed")
    return DualPathShape(
        mask_channels=mask_channels,
        image_channels=image_channels,
        width_x=width_x,
        width_g=width_g,
        mult_x=tuple(x // width_x for x in xs),
        mult_g=tuple(g // width_g for g in gs),
        heads=HEADS,
        dim_head=inside // (3 * HEADS),
        groups=GROUPS,
    )


def _size(shapes: Shapes, layer: str) -> tuple[int, ...]:
    key = f"{layer}.weight"
    if len(shapes.get(key, ())) != 4:
        raise ValueError(f"lacks {key}, the weights of a convolution")
    return shapes[key]


def _rules(levels: int) -> Table:
    """Return the prefix in a checkpoint of each of our prefixes."""
    rules = {f"stem_{path}": f"init_conv_{path}" for path in "xg"}
    rules |= {f"time_{path}.layers.{at}": f"time_mlp_{path}.{at + 1}" for path in "xg" for at in (0, 2)}
    for level in range(levels):
        ours, theirs = f"encoders.{level}", f"encoder_blocks.{level}"
        for name, block in ENCODER.items():
            rules |= _within(f"{ours}.{name}", f"{theirs}.0.{block}", RESIDUAL)
        for path, place in (("x", 2), ("g", 1)):
            rules |= _within(f"{ours}.attend_{path}", f"{theirs}.0.att_{path}.att", ATTENTION)
            rules[f"{ours}.next_{path}"] = f"{theirs}.{place}"
        rules[f"{ours}.feedback"] = f"{theirs}.0.g_feedback"
        ours, theirs = f"decoders.{level}", f"decoder_blocks.{level}"
        for name, block in DECODER.items():
            rules |= _within(f"{ours}.{name}", f"{theirs}.0.{block}", RESIDUAL)
        rules |= _within(f"{ours}.attend", f"{theirs}.0.att_x.att", ATTENTION)
        rules[f"{ours}.next"] = f"{theirs}.1"
    rules |= _within("middle.first", "bottleneck.rb_before.rb", RESIDUAL)
    rules |= _within("middle.full", "bottleneck.ls_attn.s_attn", ATTENTION)
    rules |= _within("middle.linear", "bottleneck.ls_attn.l_attn.att", ATTENTION)
    rules |= _within("middle.second", "bottleneck.rb_after.rb", RESIDUAL)
    return rules | _within("joined", "final_rb.rb", RESIDUAL) | {"head": "final_conv"}


def _within(ours: str, theirs: str, parts: Mapping[str, str]) -> Table:
    return {f"{ours}.{part}": f"{theirs}.{name}" for part, name in parts.items()}


def _renamed(key: str, rules: Table) -> str:
    """Replace the longest prefix of a key that has a rule."""
    parts = key.split(".")
    head = next(name for n in range(len(parts), 0, -1) if (name := ".".join(parts[:n])) in rules)
    return rules[head] + key[len(head) :]
