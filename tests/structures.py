"""Small networks, each with one way in which channels depend on each other, and the groups that it must have.

The groups are given as (units, exact), sorted: which layers they join follows from how many there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Structure:
    """`shape`: of the input, without the batch."""

    module: Callable[[], nn.Module]
    shape: tuple[int, ...]
    groups: list[tuple[int, bool]]

    def build(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module = self.module().eval()
            for parameter in module.parameters():
                parameter.data += 0.02 * torch.randn_like(parameter)
        return module


STRUCTURES: dict[str, Structure] = {}


def structure(shape, groups):
    def noted(module):
        STRUCTURES[module.__name__] = Structure(module, shape, groups)
        return module

    return noted


@structure((8, 8, 8), [(4, False), (8, True), (12, True)])
class GroupNormNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(8, 16, 3, padding=1)
        self.g = nn.GroupNorm(4, 16)
        self.b = nn.Conv2d(16, 24, 3, padding=1)
        self.h = nn.GroupNorm(12, 24)
        self.c = nn.Conv2d(24, 8, 1)
        self.f = nn.Linear(8, 4)

    def forward(self, x):
        return self.f(self.c(F.silu(self.h(self.b(F.silu(self.g(self.a(x))))))).mean((2, 3)))


@structure((8, 8, 8), [(4, True), (16, True)])
class SelfMHA(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Linear(8, 16)
        self.m = nn.MultiheadAttention(16, 4, batch_first=True)
        self.o = nn.Linear(16, 3)

    def forward(self, x):
        x = self.e(x.flatten(1, 2))
        y, _ = self.m(x, x, x, need_weights=False)
        return self.o(x + y)


@structure((20, 8), [(4, True), (16, False), (32, True)])
class EncoderLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Linear(8, 16)
        self.m = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, dropout=0.0)
        self.o = nn.Linear(16, 3)

    def forward(self, x):
        return self.o(self.m(self.e(x)))


@structure((20, 8), [(4, False), (16, True), (16, True)])
class MHAWeights(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Linear(8, 16)
        self.m = nn.MultiheadAttention(16, 4, batch_first=True)
        self.o = nn.Linear(16, 3)

    def forward(self, x):
        x = self.e(x)
        y, w = self.m(x, x, x)
        return self.o(y), w


@structure((8, 8, 8), [(8, True)])
class PixelShuffle(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(8, 32, 3, padding=1)
        self.p = nn.PixelShuffle(2)
        self.b = nn.Conv2d(8, 4, 3)

    def forward(self, x):
        return self.b(F.relu(self.p(self.a(x))))


@structure((8, 8, 8), [(8, True), (8, True), (8, True)])
class ChanShuffleV2(nn.Module):
    def __init__(self):
        super().__init__()
        self.s = nn.Conv2d(8, 16, 1)
        self.b = nn.Conv2d(8, 8, 1)
        self.d = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.c = nn.Conv2d(8, 8, 1)
        self.e = nn.Conv2d(16, 4, 1)

    def forward(self, x):
        x = self.s(x)
        a, b = x.chunk(2, 1)
        b = self.c(self.d(self.b(b)))
        x = torch.cat([a, b], 1)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.e(x)


@structure((8, 8, 8), [(16, False), (64, True)])
class ConvNeXt(nn.Module):
    def __init__(self):
        super().__init__()
        self.s = nn.Conv2d(8, 16, 1)
        self.d = nn.Conv2d(16, 16, 7, padding=3, groups=16)
        self.n = nn.LayerNorm(16)
        self.u = nn.Linear(16, 64)
        self.w = nn.Linear(64, 16)
        self.g = nn.Parameter(torch.rand(16))
        self.o = nn.Linear(16, 4)

    def forward(self, x):
        x = self.s(x)
        y = self.d(x).permute(0, 2, 3, 1)
        y = self.g * self.w(F.gelu(self.u(self.n(y))))
        x = x + y.permute(0, 3, 1, 2)
        return self.o(x.mean((2, 3)))


@structure((8, 8, 8), [(8, True), (16, True), (16, True), (32, False)])
class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(8, 16, 3, padding=1)
        self.b = nn.Conv2d(16, 32, 3, padding=1)
        self.t = nn.ConvTranspose2d(32, 16, 2, 2)
        self.c = nn.Conv2d(32, 8, 3, padding=1)
        self.o = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        a = F.relu(self.a(x))
        b = F.relu(self.b(F.max_pool2d(a, 2)))
        u = self.t(b)
        v = F.interpolate(b, scale_factor=2, mode="bilinear")
        return self.o(F.relu(self.c(torch.cat([u, a], 1)))) + v.mean(1, keepdim=True)


@structure((8, 8, 8), [(16, True)])
class GLUConv(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(8, 32, 1)
        self.b = nn.Conv2d(16, 4, 1)

    def forward(self, x):
        return self.b(F.glu(self.a(x), 1))


@structure((8, 8, 8), [(16, True)])
class PReLUNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(8, 16, 1)
        self.p = nn.PReLU(16)
        self.b = nn.Conv2d(16, 4, 1)

    def forward(self, x):
        return self.b(self.p(self.a(x)))


@structure((12, 8), [(16, True), (24, True)])
class GRUNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Linear(8, 16)
        self.g = nn.GRU(16, 24, 2, batch_first=True)
        self.o = nn.Linear(24, 3)

    def forward(self, x):
        y, h = self.g(self.e(x))
        return self.o(y[:, -1])


@structure((12, 8), [(16, True), (24, True)])
class LSTMState(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Linear(8, 16)
        self.g = nn.LSTM(16, 24, batch_first=True)
        self.o = nn.Linear(24, 3)

    def forward(self, x):
        y, (h, c) = self.g(self.e(x))
        return self.o(h[-1] + c[-1])


@structure((16, 8), [(24, False), (48, True)])
class Mixer(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Linear(8, 24)
        self.t1 = nn.Linear(16, 32)
        self.t2 = nn.Linear(32, 16)
        self.c1 = nn.Linear(24, 48)
        self.c2 = nn.Linear(48, 24)
        self.n = nn.LayerNorm(24)
        self.o = nn.Linear(24, 3)

    def forward(self, x):
        x = self.e(x)
        x = x + self.t2(F.gelu(self.t1(self.n(x).transpose(1, 2)))).transpose(1, 2)
        x = x + self.c2(F.gelu(self.c1(x)))
        return self.o(x.mean(1))


@structure((16, 8), [(4, True)])
class EinsumAttn(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = nn.Linear(8, 32)
        self.k = nn.Linear(8, 32)
        self.v = nn.Linear(8, 32)
        self.o = nn.Linear(32, 3)

    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = (layer(x).view(b, t, 4, 8) for layer in (self.q, self.k, self.v))
        a = torch.einsum("bqhd,bkhd->bhqk", q, k).softmax(-1)
        return self.o(torch.einsum("bhqk,bkhd->bqhd", a, v).reshape(b, t, 32))


@structure((16, 8), [(2, True)])
class GQASDPA(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = nn.Linear(8, 32)
        self.k = nn.Linear(8, 16)
        self.v = nn.Linear(8, 16)
        self.o = nn.Linear(32, 3)

    def forward(self, x):
        b, t, _ = x.shape
        q = self.q(x).view(b, t, 4, 8).transpose(1, 2)
        k, v = (layer(x).view(b, t, 2, 8).transpose(1, 2) for layer in (self.k, self.v))
        return self.o(F.scaled_dot_product_attention(q, k, v, enable_gqa=True).transpose(1, 2).reshape(b, t, 32))


@structure((16, 8), [(4, True)])
class MQA(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = nn.Linear(8, 32)
        self.k = nn.Linear(8, 8)
        self.v = nn.Linear(8, 8)
        self.o = nn.Linear(32, 3)

    def forward(self, x):
        b, t, _ = x.shape
        q = self.q(x).view(b, t, 4, 8).transpose(1, 2)
        k, v = (layer(x).view(b, t, 1, 8).transpose(1, 2) for layer in (self.k, self.v))
        return self.o((q @ k.transpose(-1, -2)).softmax(-1).matmul(v).transpose(1, 2).reshape(b, t, 32))


@structure((64, 8), [(4, True), (16, True)])
class Swin(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Linear(8, 16)
        self.qkv = nn.Linear(16, 48)
        self.p = nn.Linear(16, 16)
        self.rb = nn.Parameter(torch.rand(4, 16, 16))
        self.o = nn.Linear(16, 3)
        self.m = nn.Linear(64, 32)

    def forward(self, x):
        b = x.shape[0]
        x = self.e(x).view(b, 8, 8, 16)
        y = torch.roll(x, (-2, -2), (1, 2))
        y = y.view(b, 2, 4, 2, 4, 16).permute(0, 1, 3, 2, 4, 5).reshape(b * 4, 16, 16)
        q, k, v = self.qkv(y).view(b * 4, 16, 3, 4, 4).permute(2, 0, 3, 1, 4).unbind(0)
        a = (q @ k.transpose(-1, -2) + self.rb).softmax(-1)
        y = (a @ v).transpose(1, 2).reshape(b * 4, 16, 16)
        y = self.p(y).view(b, 2, 2, 4, 4, 16).permute(0, 1, 3, 2, 4, 5).reshape(b, 8, 8, 16)
        x = x + torch.roll(y, (2, 2), (1, 2))
        z = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], -1)
        return self.m(z).mean((1, 2))


@structure((8, 8, 8), [(16, True), (16, True), (32, True)])
class OptionA(nn.Module):
    def __init__(self):
        super().__init__()
        self.s = nn.Conv2d(8, 16, 3, padding=1)
        self.a = nn.Conv2d(16, 32, 3, 2, 1)
        self.n = nn.BatchNorm2d(32)
        self.b = nn.Conv2d(32, 32, 3, padding=1)
        self.o = nn.Linear(32, 3)

    def forward(self, x):
        x = F.relu(self.s(x))
        y = self.b(F.relu(self.n(self.a(x))))
        x = F.relu(y + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 8, 8)))
        return self.o(F.adaptive_avg_pool2d(x, 1).flatten(1))


@structure((8, 8, 8), [(16, True), (16, True)])
class OptionACat(nn.Module):
    def __init__(self):
        super().__init__()
        self.s = nn.Conv2d(8, 16, 3, padding=1)
        self.a = nn.Conv2d(16, 32, 3, 2, 1)
        self.o = nn.Linear(32, 3)

    def forward(self, x):
        x = F.relu(self.s(x))
        y = self.a(x)
        z = x[:, :, ::2, ::2]
        z = torch.cat([z, z.new_zeros(z.shape[0], 16, 4, 4)], 1)
        return self.o(F.relu(y + z).mean((2, 3)))


@structure((8, 8, 8), [(16, False)])
class SpatialAttn(nn.Module):
    def __init__(self):
        super().__init__()
        self.s = nn.Conv2d(8, 16, 3, padding=1)
        self.a = nn.Conv2d(2, 1, 7, padding=3)
        self.o = nn.Conv2d(16, 3, 1)

    def forward(self, x):
        x = self.s(x)
        m = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return self.o(x * torch.sigmoid(self.a(m)))


@structure((8, 8, 8), [(16, True), (16, True)])
class NonLocal(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = nn.Conv2d(8, 16, 1)
        self.k = nn.Conv2d(8, 16, 1)
        self.v = nn.Conv2d(8, 16, 1)
        self.o = nn.Conv2d(16, 8, 1)

    def forward(self, x):
        n, c, h, w = x.shape
        q, k, v = (layer(x).flatten(2) for layer in (self.q, self.k, self.v))
        a = (q.transpose(1, 2) @ k).softmax(-1)
        y = (v @ a.transpose(1, 2)).view(n, -1, h, w)
        return x + self.o(y)


@structure((16, 8), [(16, True)])
class TiedAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.rand(16, 8))
        self.b = nn.Parameter(torch.rand(16))

    def forward(self, x):
        return F.linear(F.relu(F.linear(x, self.w, self.b)), self.w.t())


@structure((8, 8, 8), [(16, False)])
class LNChannelsFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.s = nn.Conv2d(8, 16, 3, padding=1)
        self.g = nn.Parameter(torch.rand(16, 1, 1))
        self.o = nn.Conv2d(16, 3, 1)

    def forward(self, x):
        x = self.s(x)
        u = x.mean(1, keepdim=True)
        v = (x - u).pow(2).mean(1, keepdim=True)
        return self.o(self.g * (x - u) / torch.sqrt(v + 1e-5))


@structure((8, 8, 8), [(8, True), (8, True), (8, True)])
class ResNeXt(nn.Module):
    def __init__(self):
        super().__init__()
        self.s = nn.Conv2d(8, 32, 1)
        self.a = nn.Conv2d(32, 32, 3, padding=1, groups=8)
        self.n = nn.BatchNorm2d(32)
        self.b = nn.Conv2d(32, 16, 1)
        self.t = nn.Conv2d(16, 16, 3, padding=1, groups=2)
        self.o = nn.Conv2d(16, 4, 1)

    def forward(self, x):
        return self.o(F.relu(self.t(F.relu(self.b(F.relu(self.n(self.a(F.relu(self.s(x))))))))))


@structure((8, 8, 8), [(8, True), (16, True)])
class SEBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.s = nn.Conv2d(8, 16, 1)
        self.a = nn.Linear(16, 8)
        self.b = nn.Linear(8, 16)
        self.o = nn.Conv2d(16, 4, 1)

    def forward(self, x):
        x = self.s(x)
        n, c, _, _ = x.shape
        g = torch.sigmoid(self.b(F.relu(self.a(F.adaptive_avg_pool2d(x, 1).view(n, c))))).view(n, c, 1, 1)
        return self.o(x * g.expand_as(x))


@structure((8, 8, 8), [(16, True)])
class InstNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.s = nn.Conv2d(8, 16, 1)
        self.n = nn.InstanceNorm2d(16, affine=True)
        self.o = nn.Conv2d(16, 4, 1)

    def forward(self, x):
        return self.o(F.relu(self.n(self.s(x))))


@structure((32, 8), [(16, False)])
class Conv1dTransposeLN(nn.Module):
    def __init__(self):
        super().__init__()
        self.c = nn.Conv1d(8, 16, 3, padding=1)
        self.n = nn.LayerNorm(16)
        self.o = nn.Linear(16, 3)

    def forward(self, x):
        return self.o(self.n(self.c(x.transpose(1, 2)).transpose(1, 2)))


@structure((6, 8), [(2, True)])
class HeadBias(nn.Module):
    """A bias for each head, looked up in a table (T5), is cut with the heads; what is gathered by an index stays whole."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.table = nn.Embedding(6, 2)
        self.w, self.o = nn.Linear(8, 4), nn.Linear(12, 3)

    def forward(self, x):
        q, k, v = (layer(x).unflatten(-1, (2, 4)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        bias = self.table(torch.arange(6).view(6, 1).expand(6, 6)).permute(2, 0, 1).unsqueeze(0)
        y = F.scaled_dot_product_attention(q, k, v, bias.contiguous()).transpose(1, 2).flatten(2)
        index = torch.arange(4).flip(0).expand(x.shape[0], 6, 4)
        return self.o(torch.cat([y, self.w(x).gather(2, index)], -1))


@structure((8, 8, 8), [(16, True)])
class OneSlope(nn.Module):
    """A PReLU with one slope for all channels."""

    def __init__(self):
        super().__init__()
        self.a, self.p, self.b = nn.Conv2d(8, 16, 3), nn.PReLU(), nn.Conv2d(16, 4, 1)

    def forward(self, x):
        return self.b(self.p(self.a(x))).mean((2, 3))
