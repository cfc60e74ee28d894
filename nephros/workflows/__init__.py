"""What the commands do, each as one function of plain arguments."""
