"""The public functions, one per command: the same name and the same options in Python and on the command line.

Their signatures and docstrings are the command line's options and help; those of ``pretrain``, ``finetune`` and
``compare`` are made from ``maeseg.config``. Heavy modules are imported only in a call, so that ``import maeseg`` and
``maeseg --help`` stay quick.
"""
