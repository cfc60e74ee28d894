"""Fine-tuning: candidate methods on a few labels, compared by cross-validation, and what the labels themselves reveal."""
