"""Data sets as folders of images and tables of labels."""
