"""What a pathologist opens in the browser: the cohort's report, and the slides with their nuclei."""
