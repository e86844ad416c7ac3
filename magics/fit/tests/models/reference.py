"""The models in PyTorch: torchvision's, and for those that it lacks, what ours are compared with."""

import torch
import torch.nn.functional as F
import torchvision.models as tv
from torch import nn


class LeNet(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(400, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc3(F.relu(self.fc2(x)))


class DoubleConv(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.conv1 = nn.Conv2d(a, b, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(b)
        self.conv2 = nn.Conv2d(b, b, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(b)

    def forward(self, x):
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class Up(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.up = nn.ConvTranspose2d(width, width // 2, 2, stride=2)
        self.conv = DoubleConv(width, width // 2)

    def forward(self, x, across):
        return self.conv(torch.cat([across, self.up(x)], 1))


class UNet(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.down = nn.ModuleList([DoubleConv(channels, 16), DoubleConv(16, 32), DoubleConv(32, 64)])
        self.middle = DoubleConv(64, 128)
        self.up = nn.ModuleList([Up(128), Up(64), Up(32)])
        self.head = nn.Conv2d(16, classes, 1)

    def forward(self, x):
        across = []
        for part in self.down:
            across.append(part(x))
            x = F.max_pool2d(across[-1], 2)
        x = self.middle(x)
        for part in self.up:
            x = part(x, across.pop())
        return self.head(x)


class LSTMTagger(nn.Module):
    def __init__(self, words, embedding_dim, hidden_dim, tags):
        super().__init__()
        self.word_embeddings = nn.Embedding(words, embedding_dim)
        self.lstm = nn.LSTM(embedding_dim, hidden_dim, batch_first=True, bidirectional=True)
        self.hidden2tag = nn.Linear(2 * hidden_dim, tags)

    def forward(self, x):
        return self.hidden2tag(self.lstm(self.word_embeddings(x))[0])


class Attention(nn.Module):
    def __init__(self, size, heads):
        super().__init__()
        self.c_attn = nn.Linear(size, 3 * size)
        self.c_proj = nn.Linear(size, size)
        self.heads = heads

    def forward(self, x):
        n, t, c = x.shape
        q, k, v = (p.view(n, t, self.heads, c // self.heads).transpose(1, 2) for p in self.c_attn(x).split(c, 2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(y.transpose(1, 2).reshape(n, t, c))


class GPTBlock(nn.Module):
    def __init__(self, size, heads):
        super().__init__()
        self.ln_1 = nn.LayerNorm(size)
        self.attn = Attention(size, heads)
        self.ln_2 = nn.LayerNorm(size)
        self.mlp = nn.ModuleDict(dict(c_fc=nn.Linear(size, 4 * size), c_proj=nn.Linear(4 * size, size)))

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        inner = F.gelu(self.mlp.c_fc(self.ln_2(x)), approximate="tanh")
        return x + self.mlp.c_proj(inner)


class GPT(nn.Module):
    def __init__(self, vocab, block, layers, heads, size):
        super().__init__()
        self.transformer = nn.ModuleDict(
            dict(
                wte=nn.Embedding(vocab, size),
                wpe=nn.Embedding(block, size),
                h=nn.ModuleList([GPTBlock(size, heads) for _ in range(layers)]),
                ln_f=nn.LayerNorm(size),
            )
        )
        self.lm_head = nn.Linear(size, vocab, bias=False)

    def forward(self, x):
        y = self.transformer.wte(x) + self.transformer.wpe(torch.arange(x.shape[1]))
        for block in self.transformer.h:
            y = block(y)
        return self.lm_head(self.transformer.ln_f(y))


# How to make each, and the shape of its input; with a number of tokens, where it is of whole numbers.
MODELS = {
    "lenet": (lambda: LeNet(10), [2, 1, 28, 28], None),
    "resnet18": (lambda: tv.resnet18(num_classes=10), [1, 3, 64, 64], None),
    "resnet34": (lambda: tv.resnet34(num_classes=10), [1, 3, 64, 64], None),
    "resnet50": (lambda: tv.resnet50(num_classes=10), [1, 3, 64, 64], None),
    "mobilenet_v2": (lambda: tv.mobilenet_v2(num_classes=10), [1, 3, 64, 64], None),
    "vit_b_16": (lambda: tv.vit_b_16(num_classes=10), [1, 3, 224, 224], None),
    "unet": (lambda: UNet(3, 2), [1, 3, 16, 24], None),
    "lstm_tagger": (lambda: LSTMTagger(50, 16, 12, 5), [2, 7], 50),
    "gpt": (lambda: GPT(65, 16, 2, 2, 32), [2, 16], 65),
}
