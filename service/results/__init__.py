"""What was measured of variants on a device: the schemas of its reports, and how sure a share is."""
