"""Networks of images: norms in groups, shuffled, split, padded and gated channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .structure import structure


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


@structure((8, 8, 8), [(16, True)])
class OneSlope(nn.Module):
    """A PReLU with one slope for all channels."""

    def __init__(self):
        super().__init__()
        self.a, self.p, self.b = nn.Conv2d(8, 16, 3), nn.PReLU(), nn.Conv2d(16, 4, 1)

    def forward(self, x):
        return self.b(self.p(self.a(x))).mean((2, 3))
