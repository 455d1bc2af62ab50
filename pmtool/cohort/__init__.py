"""`pmtool cohort`: resample many scans, on one machine or on a cluster; see docs/cohort.md."""
