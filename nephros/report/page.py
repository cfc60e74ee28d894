def write_report(f):
    return f.file("report.html")
