"""The release report: one self-contained HTML file for each release, pushed or refused."""
