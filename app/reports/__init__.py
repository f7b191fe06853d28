"""Reports: compiled from the statistics, written as JSON, CSV and one HTML page, sent by e-mail and webhook."""
