"""Make a document from findings: key images, sentences, one self-contained HTML page. Knows no model and no scene."""
