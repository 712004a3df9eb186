"""From a model of tokens to a model of bytes: a student with the teacher's blocks inside, and what it is taught.

Training is that of every model. The teacher's blocks are copied (`model.main_network` of a run file), may be frozen
(`model.freeze`), and three terms are added to the loss: `token_boundaries`, `teacher_bytes` and `teacher_embeddings`.
"""

from hnet_lm.distillation.student import student_config

__all__ = ["student_config"]
