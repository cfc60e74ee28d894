"""Data sets: MedMNIST, npz files, folders of images and synthetic cells; image decoding, batches and augmentation."""
