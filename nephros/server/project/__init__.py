"""The routes of `nephros serve --project`: cells, labels, training and exports of one project folder."""
