"""The list of architectures, by name."""

from __future__ import annotations

from . import convolutional, policy_value, speech, tabular, transformer
from .architecture import Architecture

ARCHITECTURES: dict[str, Architecture] = {
    architecture.name: architecture
    for architecture in (
        Architecture("mlp", tabular.MLP, tabular.vectors),
        Architecture("vgg", convolutional.vgg, convolutional.images),
        Architecture("resnet", convolutional.resnet, convolutional.images),
        Architecture("mobilenet", convolutional.mobilenet, convolutional.images),
        Architecture("densenet", convolutional.densenet, convolutional.images),
        Architecture("vit", transformer.vit, transformer.photographs),
        Architecture("bert", transformer.bert, transformer.masked_tokens),
        Architecture("gpt2", transformer.gpt2, transformer.causal_tokens),
        Architecture("llama", transformer.llama, transformer.causal_tokens),
        Architecture("dlrm", tabular.DLRM, tabular.features_and_categories),
        Architecture("whisper", transformer.whisper, transformer.speech_and_tokens),
        Architecture("clip", transformer.clip, transformer.text_and_photographs),
        Architecture("policy_value", policy_value.PolicyValue, policy_value.boards),
        Architecture("lstm_speech", speech.LSTMSpeech, speech.log_mels),
    )
}
