from nephros.runs import RunFolder
def write_report(f): return f.file("report.html")
