"""3-D fluorescence stacks: reading, segmentation, and crops of nuclei as images."""
