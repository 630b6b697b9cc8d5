"""What the fork server imports once, so that each of its children starts a stage within milliseconds."""

import torch

torch.set_num_threads(1)  # before anything starts a pool of threads: only a process with one thread may fork

import accelerate.tracking  # noqa: E402, F401
import matplotlib.pyplot  # noqa: E402, F401
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel  # noqa: E402, F401
from sklearn import manifold  # noqa: E402, F401
from transformers import CLIPTextModel, CLIPTokenizer  # noqa: E402, F401

from pipeline.methods.features import efficientnet_lite0  # noqa: E402, F401
from pipeline.methods.generators import siamese  # noqa: E402, F401
from pipeline.methods.masks import real  # noqa: E402, F401
from pipeline.methods.readers import phantom  # noqa: E402, F401
from pipeline.methods.segmenters import unet  # noqa: E402, F401
from pipeline.stages.report import page  # noqa: E402, F401
