"""Build data sets for training and evaluation from a site's own cases.

```
samples    types of pictures, pairs and problems; one type for text, boxes and masks
medpix, vqa, tables, volumes    readers, one per file format; `reading` chooses
splitting  split by patient, and check that no patient is in two splits
building   check, build and describe a data set; `dataset` reads it again
```

Only the optional descriptions in `described` use a model.
"""
