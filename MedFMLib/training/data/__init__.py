"""A site's own cases, from its files to a data set that a model can be trained and judged with.

    samples    what a picture, a pair and a problem are; one type for text, boxes and masks
    medpix, vqa, tables, volumes    readers, one for each kind of files; `reading` chooses
    splitting  by patient, and the check that nobody stands on both sides
    building   check, build and the data set's card; `dataset` reads what was built

Nothing here knows a model, but the optional descriptions in `described`.
"""
