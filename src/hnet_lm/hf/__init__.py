"""The models of this package as Hugging Face's transformers knows models.

    import hnet_lm.hf
    model = AutoModelForCausalLM.from_pretrained(directory)     # written by `hnet-lm export hf`, or by save_pretrained
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model.generate(**tokenizer("Once upon", return_tensors="pt"), max_new_tokens=50)

The import registers the classes with AutoConfig, AutoModelForCausalLM and AutoTokenizer. Needs the extra `hf`.
"""

from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from hnet_lm.hf.cache import StateCache
from hnet_lm.hf.configuration import HNetLMConfig
from hnet_lm.hf.modeling import HNetCausalLMOutput, HNetLMForCausalLM
from hnet_lm.hf.tokenization import HNetLMTokenizer

AutoConfig.register(HNetLMConfig.model_type, HNetLMConfig, exist_ok=True)
AutoModelForCausalLM.register(HNetLMConfig, HNetLMForCausalLM, exist_ok=True)
AutoTokenizer.register(HNetLMConfig, HNetLMTokenizer, exist_ok=True)

__all__ = ["HNetCausalLMOutput", "HNetLMConfig", "HNetLMForCausalLM", "HNetLMTokenizer", "StateCache"]
