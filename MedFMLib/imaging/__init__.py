"""Process slices and views of volumes, outline regions, detect burned-in text. Depends on numpy and SimpleITK only."""
