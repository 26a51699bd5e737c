"""Many volumes, several tasks each, one after the other or at the same time; what was done stays done.

cases      what there is to do: from a folder, DICOM studies, a CSV, a scene
plan       what is asked of each case
manifest   what was done, in SQLite
results    files of one response, whole or not at all
running    hands cases to runners and keeps the manifest
engines    where they run: worker processes, a MedFM server, Ray
summary    index.html and summary.csv
"""
