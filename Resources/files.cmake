# Every file that is installed. Written by Testing/host/cmake/list_files.py
set(MedFM_RESOURCES
  "models/medfm-tiny/labels.json"
  "reports/report.html.j2"
  "terminology/structures.json"
  "zoo/configs/paligemma-3b-mix-224/config.json"
  "zoo/configs/paligemma2-3b-mix-448/config.json"
  "zoo/medfm-tiny.json"
  "zoo/paligemma-3b-mix-224.json"
  "zoo/paligemma2-3b-mix-448.json"
  )
