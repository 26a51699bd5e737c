"""Run tasks on many volumes, sequentially or in parallel; finished results are kept when a batch is interrupted.

```
cases      find the volumes: from a folder, DICOM studies, a CSV, a scene
plan       define the tasks of each case
manifest   record what was done, in SQLite
results    write the files of one response atomically
running    distribute cases to runners and update the manifest
engines    where they run: worker processes, a MedFM server, Ray
summary    index.html and summary.csv
```
"""
