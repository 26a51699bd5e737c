"""Train and evaluate models; nothing here is needed to use them.

`data` builds data sets from a site's files, `finetune` trains and evaluates adapters, `embedded` trains and measures
the
embedded model.
"""
