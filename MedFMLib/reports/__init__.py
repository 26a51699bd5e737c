"""From findings to a document: key images, words, one self-contained HTML page. Knows no model and no scene."""
