"""Text from a model: sampling, continuous batching, text streams, scoring."""

from hnet_lm.generation.boundaries import ByteBoundary
from hnet_lm.generation.engine import Engine
from hnet_lm.generation.library import Score, generate, score, stream
from hnet_lm.generation.limits import EngineLimits
from hnet_lm.generation.params import RequestError, SamplingParams
from hnet_lm.generation.request import Event, FinishReason, Request
from hnet_lm.generation.sampling import ByteLogprob
from hnet_lm.generation.text_stream import TextStream
from hnet_lm.generation.vocabulary import Tokenizer, Vocabulary, check_tokenizer, vocabulary_of

__all__ = [
    "ByteBoundary",
    "ByteLogprob",
    "Engine",
    "EngineLimits",
    "Event",
    "FinishReason",
    "Request",
    "RequestError",
    "SamplingParams",
    "Score",
    "TextStream",
    "Tokenizer",
    "Vocabulary",
    "check_tokenizer",
    "generate",
    "score",
    "stream",
    "vocabulary_of",
]
