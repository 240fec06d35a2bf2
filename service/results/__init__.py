"""Results of measuring variants on a device: the schemas of reports, and confidence intervals."""
