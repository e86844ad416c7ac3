"""Passes over a folder of images with PyTorch's DataLoader, for `loader.rs`, which starts this and names the sizes.

Reads a line for each pass that is wanted and answers with `SECONDS IMAGES`. Decoding, resizing and cropping are done by
Pillow, as in torchvision's own examples; workers stay alive between passes, and their start is not timed.
"""

import sys
import time
import warnings

import torch
from torchvision import datasets
from torchvision import transforms as T

folder, workers, batch, resize, crop = sys.argv[1], *map(int, sys.argv[2:])
warnings.filterwarnings("ignore")
torch.set_num_threads(1)
images = datasets.ImageFolder(
    folder,
    T.Compose(
        [
            T.Resize(resize),
            T.CenterCrop(crop),
            T.RandomHorizontalFlip(),
            T.ToTensor(),
            T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    ),
)
loader = torch.utils.data.DataLoader(
    images, batch_size=batch, shuffle=True, num_workers=workers, persistent_workers=workers > 0
)
for _ in loader:
    pass
print("ready", flush=True)
for _ in sys.stdin:
    begun = time.perf_counter()
    count = sum(len(x) for x, _ in loader)
    print(time.perf_counter() - begun, count, flush=True)
