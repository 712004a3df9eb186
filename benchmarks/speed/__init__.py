"""The speed benchmark: each part that is measured is a file, what it means is in `summary`, its tables in `report`."""
