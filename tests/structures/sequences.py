"""Networks of sequences: attention in its forms, recurrent layers, tied and transposed weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .structure import structure


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


@structure((16, 8), [(16, True)])
class TiedAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.rand(16, 8))
        self.b = nn.Parameter(torch.rand(16))

    def forward(self, x):
        return F.linear(F.relu(F.linear(x, self.w, self.b)), self.w.t())


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
